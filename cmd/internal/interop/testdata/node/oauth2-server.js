// A login server made of @node-oauth/oauth2-server. ACCOUNT has the account as
// JSON; the address is printed once it listens.
'use strict'
const http = require('http')
const OAuth2Server = require('@node-oauth/oauth2-server')
const { Request, Response } = OAuth2Server

const account = JSON.parse(process.env.ACCOUNT)
const client = { id: account.client_id, grants: ['password', 'client_credentials'] }

const oauth = new OAuth2Server({
  model: {
    getClient: (id, secret) => id === account.client_id && secret === account.client_secret ? client : false,
    getUser: (name, password) => name === account.username && password === account.password ? { name } : false,
    getUserFromClient: () => ({ name: 'the client' }),
    saveToken: (token, client, user) => ({ ...token, client, user }),
    validateScope: (user, client, scope) => !scope || scope.every((s) => s === 'metrics') ? scope : false
  }
})

const server = http.createServer((req, res) => {
  const parts = []
  req.on('data', (part) => parts.push(part))
  req.on('end', async () => {
    const text = Buffer.concat(parts).toString()
    const response = new Response()
    try {
      await oauth.token(new Request({
        method: req.method, headers: req.headers, query: {}, body: Object.fromEntries(new URLSearchParams(text))
      }), response)
    } catch (error) {
      // What oauth.token has set is the library's answer.
      if (!response.body) response.body = { error: error.name, error_description: error.message }
    }
    res.writeHead(response.status, { ...response.headers, 'Content-Type': 'application/json' })
    res.end(JSON.stringify(response.body))
  })
})
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
