// Keeps the page as it would be if it were loaded again now: by one stream, from
// which come names, attributes and texts, and never markup.
'use strict'
{
  const SVG = 'http://www.w3.org/2000/svg'
  const patience = 25_000 // two beats of the server's, and some
  const lost = document.getElementById('lost')
  const link = document.getElementById('link')
  const filter = document.getElementById('filter')
  let source, watchdog, retry, tries = 0, lostAt

  // build makes the element that node describes.
  const build = (node, parent) => {
    const space = node.n === 'svg' ? SVG : parent.namespaceURI
    const element = document.createElementNS(space, node.n)
    for (const [name, value] of Object.entries(node.a ?? {})) set(element, name, value)
    for (const child of node.c ?? []) element.append(typeof child === 'string' ? child : build(child, element))
    return element
  }

  const set = (element, name, value) => {
    if (name.startsWith('on') || element.getAttribute(name) === value) return
    element.setAttribute(name, value)
  }

  // patch makes element as node describes it, and touches no more than it must:
  // what has the focus or was opened by its reader stays so.
  const patch = (element, node) => {
    const attributes = node.a ?? {}
    for (const { name } of [...element.attributes]) {
      if (!(name in attributes) && !(name === 'open' && element.localName === 'details')) element.removeAttribute(name)
    }
    for (const [name, value] of Object.entries(attributes)) set(element, name, value)
    fill(element, node.c ?? [])
  }

  // fill makes the children of parent as list describes them. Those with an id
  // are found by it; an entry with k alone stands for one that is as it was.
  const fill = (parent, list) => {
    const known = new Map()
    for (const child of [...parent.childNodes]) {
      if (child.id) known.set(child.id, child)
      if (child.nodeType === Node.TEXT_NODE && child.data.trim() === '') child.remove()
    }
    let at = parent.firstChild
    for (const node of list) {
      if (typeof node === 'string') {
        if (at?.nodeType === Node.TEXT_NODE) {
          if (at.data !== node) at.data = node
          at = at.nextSibling
        } else parent.insertBefore(document.createTextNode(node), at)
        continue
      }
      const id = node.k ?? node.a?.id
      const have = id === undefined ? undefined : known.get(id)
      if (have) {
        if (have === at) at = at.nextSibling
        else parent.insertBefore(have, at)
        if (node.n) patch(have, node)
      } else if (id === undefined && at?.nodeType === Node.ELEMENT_NODE && !at.id && at.localName === node.n) {
        patch(at, node)
        at = at.nextSibling
      } else if (node.n) {
        parent.insertBefore(build(node, parent), at)
      } else {
        throw new Error('the page and its server have come apart')
      }
    }
    while (at) {
      const next = at.nextSibling
      at.remove()
      at = next
    }
  }

  const show = (event) => {
    const news = JSON.parse(event.data)
    if (news.version !== document.documentElement.dataset.version) {
      location.reload() // of another bearerd
      return
    }
    if (document.title !== news.title) document.title = news.title
    for (const part of news.parts) {
      const element = document.getElementById(part.a.id)
      if (element) patch(element, part)
    }
    alive()
  }

  const clock = () => new Date().toLocaleTimeString('en-GB')

  const alive = () => {
    tries = 0
    lostAt = undefined
    clearTimeout(watchdog)
    watchdog = setTimeout(gone, patience)
    link.textContent = 'live'
    link.className = 'link live'
    if (!lost.hidden) {
      lost.hidden = true
      lost.textContent = ''
    }
    document.body.classList.remove('stale')
  }

  const close = () => {
    clearTimeout(watchdog)
    clearTimeout(retry)
    source?.close()
    source = undefined
  }

  // gone tells that the stream is lost, and makes it anew, later each time.
  const gone = () => {
    close()
    tries++
    lostAt ??= clock()
    link.textContent = 'not live'
    link.className = 'link'
    lost.textContent = `bearerd has not been heard since ${lostAt}. What stands here is of then. It is tried again every few seconds.`
    lost.hidden = false
    document.body.classList.add('stale')
    retry = setTimeout(connect, Math.min(1000 * 2 ** Math.min(tries, 4), 15_000) * (0.75 + Math.random() / 2))
  }

  // connect opens the stream, unless nobody looks: a browser gives a server six
  // connections, and the seventh page would wait for ever.
  const connect = () => {
    close()
    if (document.hidden) return
    source = new EventSource('/page/events' + location.search)
    source.addEventListener('page', (event) => {
      try {
        show(event)
      } catch (error) {
        console.error(error)
        gone()
      }
    })
    source.addEventListener('beat', alive)
    source.onerror = gone
    watchdog = setTimeout(gone, patience)
  }

  document.addEventListener('visibilitychange', () => (document.hidden ? close() : connect()))
  addEventListener('pagehide', close)
  addEventListener('pageshow', (event) => event.persisted && connect())

  // The filter is the address's, so that a filtered page can be loaded again.
  let typing
  const choose = () => {
    const chosen = new URLSearchParams()
    for (const [name, value] of new FormData(filter)) if (value) chosen.set(name, value)
    const query = chosen.toString()
    history.replaceState(null, '', query ? '/?' + query : '/')
    connect()
  }
  filter.addEventListener('submit', (event) => {
    event.preventDefault()
    choose()
  })
  filter.addEventListener('input', () => {
    clearTimeout(typing)
    typing = setTimeout(choose, 250)
  })
  filter.querySelector('button').hidden = true

  // The form is made anew now and then.
  document.addEventListener('submit', async (event) => {
    if (event.target.id !== 'again') return
    event.preventDefault()
    const button = event.target.querySelector('button')
    button.disabled = true
    try {
      await fetch('/login', { method: 'POST' })
    } catch {
      gone()
    }
    setTimeout(() => { button.disabled = false }, 1000)
  })

  if (navigator.clipboard) {
    for (const button of document.querySelectorAll('.copy')) {
      button.hidden = false
      button.addEventListener('click', async () => {
        try {
          await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent)
          button.textContent = 'Copied'
        } catch {
          button.textContent = 'Select it and copy'
        }
        setTimeout(() => { button.textContent = 'Copy' }, 2000)
      })
    }
  }

  connect()
}
