// Starts the example for a test file, and collects the codes in the SMS that it sends.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const patience = 10_000; // milliseconds

// startServer runs the example on a free port with a new database; call stop at the
// end. texts waits until count SMS were sent to a number, and resolves to their codes.
export async function startServer(...flags) {
  const dir = await mkdtemp(join(tmpdir(), 'threepid-client-'));
  const child = spawn(process.env.THREEPID_EXAMPLE, ['-listen', '127.0.0.1:0', '-db', join(dir, 'threepid.db'), ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const codes = new Map(); // by number
  let log = '';
  let heard = () => {};
  child.stderr.on('data', (chunk) => { log += chunk; });
  const url = await new Promise((resolve, reject) => {
    child.once('exit', (status) => reject(new Error(`the example exited with status ${status}: ${log}`)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const listening = /^Listening on (http:\/\/[\d.:]+)/.exec(line);
      if (listening) resolve(listening[1]);
      const text = /^SMS to (\+\d+): .*?(\d{6})/.exec(line);
      if (!text) return;
      codes.set(text[1], [...(codes.get(text[1]) ?? []), text[2]]);
      heard();
    });
  });
  return {
    url,
    log: () => log,
    async texts(number, count) {
      const deadline = Date.now() + patience;
      while ((codes.get(number) ?? []).length < count && Date.now() < deadline) {
        await new Promise((resolve) => {
          heard = resolve;
          setTimeout(resolve, 100);
        });
      }
      return codes.get(number) ?? [];
    },
    async stop() {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await gone;
      await rm(dir, { recursive: true });
    },
  };
}
