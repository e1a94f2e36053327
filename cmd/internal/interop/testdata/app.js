// A front end that calls an API, as one in development does.
'use strict';

const firstMessage = source => new Promise((resolve, reject) => {
  source.onopen = () => source.send?.('hello');
  source.onmessage = ({data}) => { source.close(); resolve(data); };
  source.onerror = () => { source.close(); reject(new Error('closed')); };
});

const body = {name: 'a', list: [1, 2]};

// Each returns what it got, as text.
const calls = {
  'get': async base => {
    const response = await fetch(base + 'get', {headers: {Accept: 'application/json', 'X-Client': 'app'}});
    return `${response.status} ${response.headers.get('X-Total-Count')} ${(await response.json()).account}`;
  },
  'post': async base => {
    const response = await fetch(base + 'post', {
      method: 'POST',
      headers: {'Content-Type': 'application/json', 'X-Client': 'app'},
      body: JSON.stringify(body),
    });
    const got = await response.json();
    return `${response.status} ${got.code ?? got.method + ' ' + got.body}`;
  },
  'delete': async base => {
    const response = await fetch(base + 'delete', {method: 'DELETE'});
    const got = await response.json();
    return `${response.status} ${got.code ?? got.method}`;
  },
  'problem': async base => {
    const response = await fetch(base + '../elsewhere');
    return `${response.status} ${response.headers.get('Content-Type')} ${(await response.json()).code}`;
  },
  'source.events': base => firstMessage(new EventSource(base + 'source.events')),
  'web.socket': base => firstMessage(new WebSocket(new URL(base + 'web.socket', location).href.replace(/^http/, 'ws'))),
};

// run makes all calls to what is under base, shows and returns their results.
async function run(base) {
  const results = {};
  for (const [name, call] of Object.entries(calls)) {
    try {
      results[name] = await call(base);
    } catch (error) {
      results[name] = `failed: ${error.message}`;
    }
    const row = document.querySelector('table').insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = results[name];
  }
  return results;
}
