// Asks a Segue gateway for songs after a song, and prints the words about them as they come.
//
//   node narrate.js "fade to black metallica" [127.0.0.1:50050]

import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const [query = 'fade to black metallica', address = '127.0.0.1:50050'] = process.argv.slice(2);

const protos = fileURLToPath(new URL('../../protos', import.meta.url));
const definition = protoLoader.loadSync('segue/gateway/v1/gateway_service.proto', {
  includeDirs: [protos],
  enums: String,
  longs: Number,
  oneofs: true,
  defaults: true,
});
const { GatewayService } = grpc.loadPackageDefinition(definition).segue.gateway.v1;
const gateway = new GatewayService(address, grpc.credentials.createInsecure());

const deadline = new Date(Date.now() + 120_000);
const call = gateway.narrate({ seeds: [{ query }], stopping: { maxNewTokens: 40 } }, { deadline });

call.on('data', ({ songs, text, finished }) => {
  if (songs) {
    for (const { song, score } of songs.songs) {
      console.log(`${score.toFixed(3)}  ${song.title} - ${song.artist}`);
    }
  }
  if (text) process.stdout.write(text.text);
  if (finished) {
    console.log(`\n[${finished.reason}]`);
    if (finished.error) {
      console.error(finished.error.message);
      process.exitCode = 1;
    }
  }
});
call.on('error', (error) => {
  console.error(`${grpc.status[error.code]}: ${error.details}`);
  process.exitCode = 1;
});
call.on('close', () => gateway.close());
call.on('end', () => gateway.close());
