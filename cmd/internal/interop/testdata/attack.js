// What a page can do to make a browser send a request elsewhere. Each attack
// gets the URL to hit and returns what it could read of the answer. Whether a
// request went out is for the test to see: most of these are never told.
'use strict';

const text = async response => (await response).text();

const append = (tag, properties) => {
  const element = Object.assign(document.createElement(tag), properties);
  document.documentElement.append(element);
  return element;
};

// settled waits until an element has loaded, or has not.
const settled = element => new Promise(resolve => {
  element.onload = element.onerror = () => resolve(element);
});

// submit sends a form into a frame of this page, or into a window.
const submit = (action, properties) => {
  if (!properties.target) append('iframe', {name: action});
  append('form', {
    action, method: 'post', target: action, innerHTML: '<input name="name" value="value">', ...properties,
  }).submit();
};

// fromFrame runs a script in a frame of origin "null"; it calls done(what it read).
const fromFrame = (script, frame) => new Promise(resolve => {
  const html = `<script>const done = read => parent.postMessage([${JSON.stringify(script)}, read], '*');${script}</script>`;
  addEventListener('message', ({data: [from, read]}) => from === script && resolve(read));
  append('iframe', frame(html));
});
const sandboxed = html => ({sandbox: 'allow-scripts allow-forms', srcdoc: html});
const dataURL = html => ({src: 'data:text/html,' + encodeURIComponent(html)});
const fetchInFrame = url => `fetch(${JSON.stringify(url)}).then(r => r.text()).then(done, () => done(''));`;

const askWorker = (script, message) => new Promise((resolve, reject) => {
  const worker = new Worker(script);
  worker.onmessage = ({data}) => resolve(data);
  worker.onerror = reject;
  worker.postMessage(message);
});

const askServiceWorker = async message => {
  await navigator.serviceWorker.register('service-worker.js');
  const {active} = await navigator.serviceWorker.ready;
  return new Promise(resolve => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = ({data}) => resolve(data);
    active.postMessage(message, [port2]);
  });
};

const xhr = (method, url, change = () => {}) => new Promise(resolve => {
  const request = new XMLHttpRequest();
  request.open(method, url);
  change(request);
  request.onloadend = () => resolve(request.responseText);
  request.send();
});

const firstMessage = source => new Promise(resolve => {
  source.onopen = () => source.send?.('hello');
  source.onmessage = ({data}) => { source.close(); resolve(data); };
  source.onerror = () => { source.close(); resolve(''); };
});

const json = {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'};
const redirected = url => 'redirect?to=' + encodeURIComponent(url);
const at = (host, url) => Object.assign(new URL(url), {hostname: host}).href;

// The extension tells upstream what to answer with.
const attacks = {
  'img': url => append('img', {src: url}),
  'img-redirected': url => append('img', {src: redirected(url)}),
  'img-no-referrer': url => append('img', {src: url, referrerPolicy: 'no-referrer'}),
  'img-crossorigin': url => append('img', {src: url, crossOrigin: 'use-credentials'}),
  'object': url => append('object', {data: url}),
  'embed': url => append('embed', {src: url}),
  'iframe': url => append('iframe', {src: url}),
  'script.js': async url => { await settled(append('script', {src: url})); return globalThis.leak; },
  'module.js': async url => { await import(url); return globalThis.leak; },
  'stylesheet.css': async url => {
    await settled(append('link', {rel: 'stylesheet', href: url}));
    return getComputedStyle(document.documentElement).getPropertyValue('--leak');
  },
  'font': url => new FontFace('leak', `url(${url})`).load(),
  'prefetch': url => append('link', {rel: 'prefetch', href: url}),
  'preload': url => append('link', {rel: 'preload', as: 'image', href: url}),

  'form-urlencoded': url => submit(url, {}),
  'form-text': url => submit(url, {enctype: 'text/plain'}),
  'form-multipart': url => submit(url, {enctype: 'multipart/form-data'}),
  'form-get': url => submit(url, {method: 'get'}),
  'form-no-referrer': url => submit(url, {rel: 'noreferrer'}),
  'form-window': url => submit(url, {target: '_blank'}),
  'form-sandboxed': url => append('iframe', sandboxed(
    `<form method="post" action="${url}"></form><script>document.forms[0].submit()</script>`)),
  'beacon': url => void navigator.sendBeacon(url, 'text'),
  'beacon-json': url => void navigator.sendBeacon(url, new Blob(['{}'], {type: 'application/json'})),
  'ping': url => Object.assign(document.createElement('a'), {href: '#', ping: url}).click(),

  'fetch': url => text(fetch(url)),
  'fetch-no-cors': url => text(fetch(url, {mode: 'no-cors'})),
  'fetch-no-cors-post': url => text(fetch(url, {mode: 'no-cors', method: 'POST', body: '{}'})),
  'fetch-no-referrer-post': url => text(fetch(url, {mode: 'no-cors', method: 'POST', referrerPolicy: 'no-referrer'})),
  'fetch-credentials': url => text(fetch(url, {credentials: 'include'})),
  'fetch-header': url => text(fetch(url, {headers: {'X-Attack': 'yes'}})),
  'fetch-json': url => text(fetch(url, json)),
  'fetch-delete': url => text(fetch(url, {method: 'DELETE'})),
  'fetch-redirected': url => text(fetch(redirected(url))),
  'fetch-same-origin': url => text(fetch(url, {mode: 'same-origin'})),
  'fetch-keepalive': url => text(fetch(url, {keepalive: true, mode: 'no-cors'})),
  'xhr': url => xhr('GET', url),
  'xhr-credentials': url => xhr('GET', url, r => { r.withCredentials = true; }),
  'xhr-put': url => xhr('PUT', url, r => r.setRequestHeader('X-Attack', 'yes')),
  'source.events': url => firstMessage(new EventSource(url)),
  'web.socket': url => firstMessage(new WebSocket(url.replace(/^http/, 'ws'))),

  'null-sandbox': url => fromFrame(fetchInFrame(url), sandboxed),
  'null-data': url => fromFrame(fetchInFrame(url), dataURL),
  'null-socket.socket': url => fromFrame(`
    const socket = new WebSocket(${JSON.stringify(url.replace(/^http/, 'ws'))});
    socket.onopen = () => socket.send('hello');
    socket.onmessage = e => done(e.data);
    socket.onerror = () => done('');`, sandboxed),

  'worker': url => askWorker('worker.js', {url}),
  'worker-import.js': url => askWorker('worker.js', {url, method: 'importScripts'}),
  'service-worker': url => askServiceWorker({url}),

  'window': url => void open(url),
  'window-redirected': url => void open(redirected(url)),
  'link': url => Object.assign(document.createElement('a'), {href: url, target: '_blank', rel: 'noreferrer'}).click(),

  // Names that browsers do not know for this machine's: to them goes neither
  // Origin nor Sec-Fetch-Site with these.
  'own-name': url => append('img', {src: at('evil.test', url)}),
  'own-name-fetch': url => text(fetch(at('evil.test', url))),
  'zero': url => append('img', {src: at('0.0.0.0', url)}),
  'zero-fetch': url => text(fetch(at('0.0.0.0', url))),
  'zero-form': url => submit(at('0.0.0.0', url), {}),
  'trailing-dot': url => append('img', {src: at('localhost.', url)}),
  'subdomain': url => append('img', {src: at('bearerd.localhost', url)}),
};

// What a page does whose own name has come to mean this machine.
const rebound = {
  'get': url => text(fetch(url)),
  'post-json': url => text(fetch(url, json)),
  'delete': url => text(fetch(url, {method: 'DELETE'})),
  'img': url => append('img', {src: url}),
  'form': url => submit(url, {}),
  'iframe': async url => (await settled(append('iframe', {src: url}))).contentDocument.body.textContent,
  'source.events': url => firstMessage(new EventSource(url)),
  'web.socket': url => firstMessage(new WebSocket(url.replace(/^http/, 'ws'))),
};

// run makes all attacks at once and returns what each could read.
async function run(attacks, base) {
  const reads = {};
  await Promise.all(Object.entries(attacks).map(async ([name, attack]) => {
    reads[name] = '';
    try {
      const read = await attack(base + name);
      if (typeof read === 'string') reads[name] = read;
    } catch {
      // Refused: the page learns no more.
    }
  }));
  return reads;
}
