'use strict';

onmessage = async ({data: {url, method}}) => {
  try {
    if (method === 'importScripts') {
      importScripts(url);
      postMessage(globalThis.leak);
    } else {
      postMessage(await (await fetch(url)).text());
    }
  } catch {
    postMessage('');
  }
};
