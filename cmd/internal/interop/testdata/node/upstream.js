// An API by Node's http or, where CERT names a file of certificate and key, by
// its http2. The address is printed once it listens.
'use strict'
const fs = require('fs')
const http = require('http')
const http2 = require('http2')

const file = Buffer.alloc(1 << 20, '0123456789abcdef')
const asked = {}

function answer (req, res) {
  const path = req.url
  asked[path] = (asked[path] || 0) + 1
  const end = (status, body, fields = {}) => {
    res.writeHead(status, { 'Content-Length': body.length, ...fields })
    res.end(req.method === 'HEAD' ? undefined : body)
  }
  const parts = []
  req.on('data', (part) => parts.push(part))
  req.on('error', () => {})
  req.on('end', () => {
    const body = Buffer.concat(parts)
    if (path.startsWith('/once/') && asked[path] === 1) return end(401, Buffer.from('no'), { 'WWW-Authenticate': 'Bearer' })
    if (path.startsWith('/asked/')) return end(200, Buffer.from(String(asked[path.slice(6)] || 0)))
    if (path === '/protocol') return end(200, Buffer.from(req.httpVersion))
    if (path.startsWith('/reset')) return req.stream ? req.stream.session.destroy() : req.socket.destroy()
    if (path === '/file' && req.headers['if-none-match'] === '"1"') { res.writeHead(304, { ETag: '"1"' }); return res.end() }
    if (path === '/file') return end(200, file, { ETag: '"1"' })
    if (path === '/empty416') { res.writeHead(416, { 'Content-Range': 'bytes */5' }); return res.end() }
    if (path === '/broken') return end(500, Buffer.from('<h1>broken</h1>'), { 'Content-Type': 'text/html' })
    if (path === '/stream') {
      res.writeHead(200, { 'Content-Type': 'text/event-stream' })
      let n = 0
      const timer = setInterval(() => {
        res.write(`data: ${n}\n\n`)
        if (++n === 5) { clearInterval(timer); res.end() }
      }, 20)
      return
    }
    end(200, body)
  })
}

const server = process.env.CERT
  ? http2.createSecureServer({ key: fs.readFileSync(process.env.CERT), cert: fs.readFileSync(process.env.CERT) }, answer)
  : http.createServer({ keepAliveTimeout: 1000 }, answer)
server.listen(0, '127.0.0.1', () => console.log(`http${process.env.CERT ? 's' : ''}://127.0.0.1:${server.address().port}`))
