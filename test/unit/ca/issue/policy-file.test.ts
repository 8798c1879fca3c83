import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';

import { PolicyFile, type PolicyStatus } from '../../../../ca/issue/policy-file.ts';
import type { Log } from '../../../../host/log.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';

const BOUNDS = { maxTtlMs: 30 * 86_400_000, backdateMs: 0 };

describe('a policy file', () => {
  let folder: string;
  let path: string;
  let clock: ManualClock;
  let logged: string[];
  let changes: PolicyStatus[];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kedge-policy-'));
    path = join(folder, 'policy.yaml');
    clock = new ManualClock();
    logged = [];
    changes = [];
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  async function load(ttl = '1h'): Promise<PolicyFile> {
    await writeFile(path, policyOf(ttl));
    return open();
  }

  function open(): Promise<PolicyFile> {
    const note = (event: string): void => void logged.push(event);
    const log: Log = { debug: note, info: note, warn: note, error: note };
    return PolicyFile.load({ path, bounds: BOUNDS, clock, log, onChange: (status) => changes.push(status) });
  }

  /** Two looks: the second finds the file as the first did. */
  async function look(file: PolicyFile): Promise<void> {
    await file.check();
    await file.check();
  }

  it('is in force once it is read, and after each good edit', async () => {
    const file = await load('1h');
    assert.equal(ttlOf(file), 3_600_000);
    const { loadedAtMs } = file.status;
    await clock.advance(5_000);
    await writeFile(path, policyOf('2h'));
    await look(file);
    assert.equal(ttlOf(file), 7_200_000);
    assert.deepEqual(file.status, {
      ...file.status,
      file: path,
      loadedAtMs: loadedAtMs + 5_000,
      error: null,
    });
    assert.deepEqual(logged, ['policy.loaded']);
    assert.deepEqual(changes, [file.status]);
  });

  it('is not taken while it still changes: half of a file is often a policy too', async () => {
    const file = await load('1h');
    await writeFile(path, policyOf('2h'));
    await file.check();
    assert.equal(ttlOf(file), 3_600_000);
    await writeFile(path, `${policyOf('3h')}# more\n`);
    await file.check();
    assert.equal(ttlOf(file), 3_600_000);
    await file.check();
    assert.equal(ttlOf(file), 10_800_000);
  });

  it('keeps the old policy after a bad edit, says so, and logs it once', async () => {
    const file = await load('1h');
    const before = file.status;
    await writeFile(path, 'rules: 5\n');
    await look(file);
    await look(file);
    await utimes(path, 1, 1);
    await look(file);
    assert.equal(ttlOf(file), 3_600_000);
    assert.match(file.status.error ?? '', /policy\.yaml:1:8: rules: 5 is not a list/);
    assert.deepEqual({ ...file.status, error: null }, before);
    assert.deepEqual(logged, ['policy.refused']);
    await writeFile(path, 'rules: 66\n');
    await look(file);
    assert.deepEqual(logged, ['policy.refused', 'policy.refused'], 'another mistake is another line');
    assert.equal(changes.length, 2);
  });

  it('forgets the complaint when the old content comes back, and takes a correction', async () => {
    const file = await load('1h');
    await writeFile(path, 'rules: 5\n');
    await look(file);
    await writeFile(path, policyOf('1h'));
    await look(file);
    assert.equal(file.status.error, null);
    await writeFile(path, 'rules: 5\n');
    await look(file);
    assert.notEqual(file.status.error, null);
    await writeFile(path, policyOf('2h'));
    await look(file);
    assert.equal(file.status.error, null);
    assert.equal(ttlOf(file), 7_200_000);
  });

  it('keeps the policy when the file is gone, and follows it when it is back', async () => {
    const file = await load('1h');
    await rm(path);
    await look(file);
    await look(file);
    assert.equal(ttlOf(file), 3_600_000);
    assert.match(file.status.error ?? '', /cannot read the policy file/);
    assert.deepEqual(logged, ['policy.refused']);
    await writeFile(path, policyOf('1h'));
    await look(file);
    assert.equal(file.status.error, null);
    await mkdir(`${path}.d`);
    await rm(path);
    await rename(`${path}.d`, path);
    await look(file);
    assert.match(file.status.error ?? '', /cannot read the policy file/, 'a folder is no file');
  });

  it('follows a symlink that is swapped, as in a ConfigMap volume, with equal size and times', async () => {
    for (const [version, ttl] of [
      ['v1', '1h'],
      ['v2', '2h'],
    ] as const) {
      await mkdir(join(folder, version));
      await writeFile(join(folder, version, 'policy.yaml'), policyOf(ttl));
      await utimes(join(folder, version, 'policy.yaml'), 1000, 1000);
    }
    await symlink('v1', join(folder, '..data'));
    await symlink('..data/policy.yaml', path);
    const file = await open();
    await symlink('v2', join(folder, '..data_tmp'));
    await rename(join(folder, '..data_tmp'), join(folder, '..data'));
    await look(file);
    assert.equal(ttlOf(file), 7_200_000);
  });

  it('is looked at again and again until it is told to stop', async () => {
    const file = await load('1h');
    const controller = new AbortController();
    const following = file.follow(controller.signal);
    await writeFile(path, policyOf('2h'));
    for (let round = 0; round < 50 && ttlOf(file) !== 7_200_000; round += 1) await clock.advance(1_000);
    assert.equal(ttlOf(file), 7_200_000);
    while (clock.sleeping === 0) await settle();
    controller.abort();
    await following;
  });

  it('must be good at the start: there is no old policy to keep', async () => {
    await assert.rejects(open(), (error) => isKedgeError(error, 'file_unreadable'));
    await writeFile(path, 'rules: 5\n');
    await assert.rejects(open(), (error) => isKedgeError(error, 'config_invalid'));
    await writeFile(path, Buffer.of(0xff, 0xfe));
    await assert.rejects(open(), /is not UTF-8/);
    await writeFile(path, '#'.repeat(1024 * 1024 + 1));
    await assert.rejects(open(), /is over 1048576 bytes/);
  });
});

function policyOf(ttl: string): string {
  return `defaults: {ttl: ${ttl}}\n`;
}

function ttlOf(file: PolicyFile): number {
  const decision = file.current.decide({ namespace: 'n', serviceAccount: 's' });
  return decision.kind === 'granted' ? decision.grant.ttlMs : assert.fail();
}
