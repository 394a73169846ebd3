// Sends unary gRPC requests, so many at a time, and says how fast the answers came.
//
//   node load.js ADDRESS METHOD REQUESTS CONCURRENCY SECONDS
//
// REQUESTS is a file of JSON: serialized requests in base64, sent one after the other, over and
// over. Prints JSON: answers a second, milliseconds at the 50th and 99th percentile, failures.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(new URL('../clients/node/package.json', import.meta.url));
const grpc = require('@grpc/grpc-js');

const [address, method, file, concurrency, seconds] = process.argv.slice(2);
const requests = JSON.parse(readFileSync(file, 'utf8')).map((text) => Buffer.from(text, 'base64'));
const client = new grpc.Client(address, grpc.credentials.createInsecure());
const same = (bytes) => bytes;

const times = [];
let failures = 0;
let sent = 0;
let measuring = false;

function ask() {
  return new Promise((resolve) => {
    const begin = process.hrtime.bigint();
    client.makeUnaryRequest(method, same, same, requests[sent++ % requests.length], (error) => {
      if (measuring) {
        if (error) failures += 1;
        else times.push(Number(process.hrtime.bigint() - begin) / 1e6);
      }
      resolve();
    });
  });
}

async function keepAsking(until) {
  while (Date.now() < until) await ask();
}

async function run(duration) {
  const until = Date.now() + duration * 1000;
  await Promise.all(Array.from({ length: Number(concurrency) }, () => keepAsking(until)));
}

await run(Math.min(2, Number(seconds)));
measuring = true;
const begin = Date.now();
await run(Number(seconds));
const elapsed = (Date.now() - begin) / 1000;

times.sort((a, b) => a - b);
const percentile = (share) => times[Math.min(times.length - 1, Math.floor(share * times.length))];
console.log(
  JSON.stringify({
    rps: times.length / elapsed,
    p50_ms: percentile(0.5),
    p99_ms: percentile(0.99),
    failures,
  }),
);
client.close();
