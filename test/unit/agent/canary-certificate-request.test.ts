import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { certificateAuthorities } from '../../../agent/canary-certificate-request.ts';

const uint = (value: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => (value >> (8 * (bytes - 1 - i))) & 0xff);
const vector = (lengthBytes: number, ...content: number[]): number[] => [
  ...uint(content.length, lengthBytes),
  ...content,
];
const message = (type: number, ...body: number[]): number[] => [type, ...vector(3, ...body)];
const record = (type: number, ...content: number[]): number[] => [type, 3, 3, ...vector(2, ...content)];
const request = (...names: readonly number[][]): number[] =>
  message(
    13,
    ...vector(1, 64, 1),
    ...vector(2, 4, 3, 8, 4),
    ...vector(2, ...names.flatMap((name) => vector(2, ...name))),
  );

const HELLO = message(2, ...Array.from({ length: 40 }, () => 9));
const [A, B] = [
  [0x30, 0x01, 0x41],
  [0x30, 0x02, 0x42, 0x43],
];
const read = (...bytes: number[]): number[][] | null =>
  certificateAuthorities(Uint8Array.from(bytes))?.map((name) => [...name]) ?? null;

describe('the authorities that a server names', () => {
  it('are read from its CertificateRequest', () => {
    assert.deepEqual(read(...record(22, ...HELLO), ...record(22, ...request(A ?? [], B ?? []))), [A, B]);
    assert.deepEqual(read(...record(22, ...HELLO, ...request(A ?? []), ...message(14))), [A]);
    assert.deepEqual(read(...record(22, ...request())), []);
  });

  it('are read however the messages are cut into records', () => {
    const flight = [...HELLO, ...request(A ?? [], B ?? []), ...message(14)];
    for (let cut = 1; cut < flight.length; cut += 1) {
      const cutUp = [...record(22, ...flight.slice(0, cut)), ...record(22, ...flight.slice(cut))];
      assert.deepEqual(read(...cutUp), [A, B], `cut at ${cut}`);
    }
  });

  it('are not there when the server asks for nothing, or says it encrypted', () => {
    assert.equal(read(...record(22, ...HELLO, ...message(14))), null);
    assert.equal(read(...record(22, ...HELLO), ...record(20, 1), ...record(23, ...request(A ?? []))), null);
    assert.equal(read(), null);
  });

  it('are not there in a message cut short at any byte', () => {
    const flight = record(22, ...HELLO, ...request(A ?? [], B ?? []));
    for (let length = 0; length < flight.length; length += 1) {
      assert.equal(read(...flight.slice(0, length)), null, `${length} bytes`);
    }
  });

  it('are not there when a length inside is wrong', () => {
    const good = request(A ?? [], B ?? []);
    // Of the types, the algorithms, all names, and each name: one more, one less, far too many.
    for (const at of [4, 8, 14, 16, 21]) {
      for (const change of [1, -1, 100]) {
        const bad = good.with(at, ((good[at] ?? 0) + change) & 0xff);
        const names = read(...record(22, ...bad));
        assert.ok(names === null || JSON.stringify(names) !== JSON.stringify([A, B]), `byte ${at} ${change}`);
      }
    }
  });

  it('never throws, whatever one byte of the flight is', () => {
    const flight = record(22, ...HELLO, ...request(A ?? [], B ?? []));
    for (let at = 0; at < flight.length; at += 1) {
      for (let byte = 0; byte < 256; byte += 5) read(...flight.with(at, byte));
    }
  });
});
