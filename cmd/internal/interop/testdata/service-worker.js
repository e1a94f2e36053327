'use strict';

oninstall = () => skipWaiting();

onmessage = async ({data: {url}, ports: [port]}) => {
  try {
    port.postMessage(await (await fetch(url)).text());
  } catch {
    port.postMessage('');
  }
};
