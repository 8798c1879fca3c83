import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { agentAt, caAt, grpcFailure } from '../../../cli/grpc-failure.ts';
import { GRPC_STATUS } from '../../../host/grpc-status.ts';

const failure = (code: number, details: string) => ({ code, details });

describe('grpcFailure', () => {
  it('names the address, and the one thing that matters of what grpc-js says', () => {
    const details =
      'No connection established. Last error: Error: connect ENOENT /run/x.sock. Resolution note: ';
    const error = grpcFailure(failure(GRPC_STATUS.UNAVAILABLE, details), agentAt('unix:///run/x.sock'));
    assert.equal(error.code, 'agent_unreachable');
    assert.equal(
      error.message,
      'the agent is not available at unix:///run/x.sock: "connect ENOENT /run/x.sock"',
    );
    assert.match(error.hint ?? '', /is the agent running/);
  });

  it('tells a CA that is not there from an agent that is not', () => {
    const error = grpcFailure(failure(GRPC_STATUS.UNAVAILABLE, 'gone'), caAt('unix:///x'));
    assert.deepEqual([error.code, /admin socket/.test(error.hint ?? '')], ['ca_unreachable', true]);
  });

  const rows = [
    { status: GRPC_STATUS.PERMISSION_DENIED, wantCode: 'identity_unavailable' },
    { status: GRPC_STATUS.DEADLINE_EXCEEDED, wantCode: 'deadline_exceeded' },
    { status: GRPC_STATUS.UNIMPLEMENTED, wantCode: 'unimplemented' },
    { status: GRPC_STATUS.INTERNAL, wantCode: 'agent_answer_invalid' },
  ];
  for (const { status, wantCode } of rows) {
    it(`reads status ${status} of an agent as ${wantCode}`, () => {
      assert.equal(grpcFailure(failure(status, 'why'), agentAt('unix:///x')).code, wantCode);
    });
  }

  it('lets no text of the other side command the terminal', () => {
    const error = grpcFailure(failure(GRPC_STATUS.UNAVAILABLE, '\u001b[2J\nfake'), agentAt('unix:///x'));
    assert.ok(!error.message.includes('\u001b') && !error.message.includes('\n'));
  });
});
