import assert from 'node:assert/strict';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import { it } from 'node:test';
import { operatorName } from '../../../cli/operator.ts';

it('an operator is named by user and uid', () => {
  const { username, uid } = os.userInfo();
  assert.equal(operatorName(), `${username} (uid ${uid})`);
});

it('an operator whom /etc/passwd does not know, as in a container with a uid of its own, is named by uid', (t) => {
  t.mock.method(os, 'userInfo', () => {
    throw new Error('uv_os_get_passwd returned ENOENT');
  });
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
  assert.equal(operatorName(), `uid ${process.getuid?.()}`);
});
