import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FILES_PRESET_NAMES } from '../../../../agent/feed/files-preset.ts';
import { AGENT_SETTING_LIST } from '../../../../agent/settings.ts';
import { ANNOTATIONS, FILES_PRESETS, readAnnotations } from '../../../../ca/inject/annotations.ts';
import { AGENT_LOG_LEVELS } from '../../../../ca/inject/injection-settings.ts';
import { expectCode } from '../../../support/expect-code.ts';

describe('the annotations', () => {
  it('offer exactly the presets and log levels of the agent', () => {
    assert.deepEqual(FILES_PRESETS, FILES_PRESET_NAMES);
    const level = AGENT_SETTING_LIST.find(({ key }) => key === 'logLevel');
    assert.deepEqual(AGENT_LOG_LEVELS, level?.choices);
  });

  const good: Record<string, readonly string[]> = {
    image: ['kedge:1', 'registry.example.org:5000/a/b@sha256:0f'],
    'ca-address': ['ca.example.org:8443', '[fd00::1]:443'],
    'cpu-request': ['100m', '0.5', '2'],
    'memory-limit': ['64Mi', '1Gi'],
    'http-port': ['1', '65535', 'disabled'],
    'run-as-user': ['101'],
    'haproxy-sockets': ['/var/run/kedge/haproxy/a.sock', '/a.sock,127.0.0.1:9999'],
    'canary-path': ['/healthz?full=1'],
    'svid-ttl': ['30m', '1h', '1s'],
    'dns-names': ['a.example.org', 'a.example.org,b.example.org'],
    'files-key-mode': ['0640', '600'],
  };
  const bad: Record<string, readonly string[]> = {
    image: ['', '-x', 'a b', `a${'b'.repeat(600)}`],
    'ca-address': ['ca', 'ca:0', 'ca:70000', 'fd00::1:443', 'ca:1 --trust-domain=evil'],
    'cpu-request': ['-1', '1e9', '01', '1 m', '1Xi'],
    'memory-limit': ['much'],
    'http-port': ['0', '65536', '08', '0x1', 'off'],
    'run-as-user': ['0', '-1', 'root', '4294967295'],
    'haproxy-sockets': ['', 'relative.sock', '/a.sock,/a.sock', '10.0.0.1:9999', '/a.sock,', '/a\n.sock'],
    'svid-ttl': ['0s', '1ms', '30', '9000h', 'soon'],
    'dns-names': ['', '*.example.org', 'A.example.org', 'a.b,a.b', 'a.b, c.d', Array(17).fill('a.b').join()],
    'canary-path': ['x', '/a b', `/${'a'.repeat(1100)}`],
    'files-key-mode': ['888', '0o640', '00640', '0644', '0601', '777'],
    'files-preset': ['caddy'],
    sidecar: ['auto'],
    'log-level': ['trace'],
    'workload-api': ['yes'],
  };
  for (const [name, values] of Object.entries(good)) {
    for (const value of values) {
      it(`take ${name}: ${value}`, () => {
        const read = readAnnotations({ [`kedge.io/${name}`]: value });
        assert.deepEqual([...read], [[name, value]]);
      });
    }
  }
  for (const [name, values] of Object.entries(bad)) {
    for (const value of values) {
      it(`refuse ${name}: ${JSON.stringify(value).slice(0, 40)}`, () => {
        const { hint } = expectCode('injection_annotation_invalid', () =>
          readAnnotations({ [`kedge.io/${name}`]: value }),
        );
        assert.match(hint ?? '', /^allowed: /);
      });
    }
  }

  it('refuse what is no text, and names that there are not, and look at no other prefix', () => {
    expectCode('injection_annotation_invalid', () => readAnnotations({ 'kedge.io/image': 7 }));
    expectCode('injection_annotation_invalid', () => readAnnotations({ 'kedge.io/__proto__': 'x' }));
    assert.equal(readAnnotations({ 'example.org/image': '', 'kedge.io/status': '{}' }).size, 0);
    assert.equal(readAnnotations(undefined).size, 0);
  });

  it('have one line each, in the style of the documentation', () => {
    assert.equal(new Set(ANNOTATIONS.map(({ name }) => name)).size, ANNOTATIONS.length);
    for (const { means } of ANNOTATIONS) assert.match(means, /^(?![A-Z][a-z]+ing\b).*[^.]$/);
  });
});
