/** The fake API server against what kube-apiserver 1.36 was recorded to answer. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { FakeApiServer } from '../../fakes/fake-api-server.ts';
import { FakeTokenIssuer } from '../../fakes/fake-token-issuer.ts';
import { ManualClock } from '../../support/manual-clock.ts';

interface Recorded {
  readonly label: string;
  readonly request: { readonly verb: string; readonly path: string; readonly body?: Json };
  readonly response?: Json;
  readonly clientError?: string;
}
type Json = { readonly [member: string]: unknown };

const FILE = join(import.meta.dirname, '../../fakes/recorded/kubernetes-1.36-tokens.json');
const { recorded } = JSON.parse(readFileSync(FILE, 'utf8')) as { recorded: readonly Recorded[] };
const START_MS = Date.parse('2026-11-23T21:20:13Z');

/** What is another value in each run: tokens, ids, times, keys; and what the fake has no use for. */
function comparable(value: unknown): unknown {
  if (typeof value === 'string') {
    return value
      .replace(/^eyJ[\w-]+\.[\w-]+\..*$/, '<token>')
      .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, '<uid>');
  }
  if (Array.isArray(value)) return value.map(comparable);
  if (typeof value !== 'object' || value === null) return value;
  const skipped = new Set([
    'managedFields',
    'creationTimestamp',
    'resourceVersion',
    'generation',
    'expirationTimestamp',
    'n',
    'kid',
  ]);
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, member]) => !skipped.has(name) && member !== null)
      .map(([name, member]) => [name, comparable(member)]),
  );
}

describe('the fake API server', () => {
  it('answers token requests and reviews, discovery and keys as kube-apiserver does', async (t) => {
    const fake = await FakeApiServer.start();
    t.after(() => fake.close());
    const clock = new ManualClock(START_MS);
    const issuer = new FakeTokenIssuer({ clock });
    fake.extensions.push(issuer.extension);
    /** Recorded token, without its signature → the fake's own for the same request. */
    const tokens = new Map<string, string>();
    let compared = 0;
    for (const { label, request, response, clientError } of recorded) {
      if (label.includes('token cache')) continue;
      if (label.includes('after its pod was deleted')) {
        fake.store.delete({ collection: '/api/v1/pods', namespace: 'rec' }, 'web-1', undefined);
      }
      let body: Json | undefined = request.body;
      const spec = body?.['spec'] as { token?: string } | undefined;
      if (spec?.token?.startsWith('eyJ') === true) {
        const own = tokens.get(unsigned(spec.token)) ?? assert.fail(`${label}: no such token`);
        const token = label.includes('signature broken') ? `${own.slice(0, -10)}AAAAAAAAAA` : own;
        body = { ...body, spec: { ...spec, token } };
      }
      const method = request.verb === 'get' ? 'GET' : 'POST';
      const answer = await fetch(`${fake.url}${request.path}`, {
        method,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const got = (await answer.json()) as Json;
      if (clientError !== undefined) {
        assert.ok(answer.status >= 400, label);
        const { message } = got as { message: string };
        assert.ok(clientError.includes(message), `${label}: ${message} / ${clientError}`);
        compared += 1;
        continue;
      }
      if (['ns', 'sa', 'pod'].includes(label)) continue;
      assert.equal(answer.status, method === 'GET' ? 200 : 201, label);
      const token = (response?.['status'] as { token?: string } | undefined)?.token;
      if (token !== undefined) {
        tokens.set(unsigned(token), (got['status'] as { token: string }).token);
        const claims = (text: string): unknown =>
          comparable(JSON.parse(Buffer.from(text.split('.')[1]!, 'base64url').toString()));
        assert.deepEqual(claims((got['status'] as { token: string }).token), claims(token), label);
        assert.deepEqual(comparable(got['spec']), comparable(response?.['spec']), label);
      } else {
        assert.deepEqual(comparable(got), comparable(response), label);
      }
      compared += 1;
    }
    assert.ok(compared >= 14, `${compared} compared`);
  });
});

/** Header and payload. */
function unsigned(token: string): string {
  return token.split('.').slice(0, 2).join('.');
}
