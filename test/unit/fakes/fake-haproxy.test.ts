import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { askHaproxy } from '../../../agent/feed/haproxy-connection.ts';
import { materialOf } from '../../../agent/feed/haproxy-material.ts';
import { systemClock } from '../../../host/clock.ts';
import { FakeHaproxy } from '../../fakes/fake-haproxy.ts';
import { SnapshotFactory } from '../../support/snapshots.ts';
import { suiteFolder } from '../../support/suite-folder.ts';

const RECORDED = (
  JSON.parse(readFileSync(join(import.meta.dirname, '../agent/feed/haproxy-answers.json'), 'utf8')) as Record<
    string,
    Record<string, string>
  >
)['3.4.0'] as Record<string, string>;
const FOLDER = '/run/kedge/haproxy';
const signal = new AbortController().signal;
const folder = suiteFolder();

describe('FakeHaproxy answers as HAProxy 3.4.0 was recorded to', () => {
  let haproxy: FakeHaproxy;
  let payload: Record<'cert' | 'ca-file' | 'crl-file', string>;
  const ask = (command: string): Promise<string> =>
    askHaproxy(command, { address: { path: haproxy.path }, timeoutMs: 5_000, clock: systemClock }, signal);

  before(async () => {
    const factory = await SnapshotFactory.make(Date.now());
    const material = materialOf(await factory.snapshot(), await factory.crl('anchor'));
    payload = {
      cert: material.certificate.blocks.join(''),
      'ca-file': material.authorities.blocks.join(''),
      'crl-file': material.crls.blocks.join(''),
    };
    haproxy = await FakeHaproxy.start(
      join(folder, 'stats.sock'),
      new Map([
        [`${FOLDER}/svid.pem`, { kind: 'cert', pem: payload.cert }],
        [`${FOLDER}/ca.pem`, { kind: 'ca-file', pem: payload['ca-file'] }],
        [`${FOLDER}/crl.pem`, { kind: 'crl-file', pem: payload['crl-file'] }],
      ] as const),
    );
  });
  after(() => haproxy.close());

  const kinds = [
    { label: 'cert', kind: 'cert', path: `${FOLDER}/svid.pem` },
    { label: 'ca', kind: 'ca-file', path: `${FOLDER}/ca.pem` },
    { label: 'crl', kind: 'crl-file', path: `${FOLDER}/crl.pem` },
  ] as const;
  /** The system's CAs, and how many certificates a file has, were of that machine and recording. */
  const comparable = (answer: string): string =>
    answer.replace(/@system-ca.*\n/, '').replace(/ - \d+ certificate/g, ' - N certificate');
  for (const { label, kind, path } of kinds) {
    const set = (to: string): string => `set ssl ${kind} ${to} <<\n${payload[kind]}\n`;
    const steps: readonly (readonly [recorded: string, command: () => string])[] = [
      ['list', () => `show ssl ${kind}\n`],
      ['abort without transaction', () => `abort ssl ${kind} ${path}\n`],
      ['commit without transaction', () => `commit ssl ${kind} ${path}\n`],
      ['show unknown', () => `show ssl ${kind} ${FOLDER}/other.pem\n`],
      ['set of unknown path', () => set(`${FOLDER}/other.pem`)],
      ['set', () => set(path)],
      ['list with transaction', () => `show ssl ${kind}\n`],
      ['set of another path', () => set(`${FOLDER}/other.pem`)],
      ['abort', () => `abort ssl ${kind} ${path}\n`],
      ['set', () => set(path)],
      ['commit', () => `commit ssl ${kind} ${path}\n`],
    ];
    it(`${kind}: list, set, commit, abort, and their refusals`, async () => {
      let compared = 0;
      for (const [recorded, command] of steps) {
        const want = RECORDED[`${label} ${recorded}`];
        const got = await ask(command());
        if (want === undefined) continue;
        assert.equal(comparable(got), comparable(want), `${label} ${recorded}`);
        compared += 1;
      }
      assert.ok(compared >= 8, `${compared} answers were compared`);
    });
  }
});
