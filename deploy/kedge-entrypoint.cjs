#!/usr/local/bin/node
// The program `kedge` of the image: the lean agent where that is asked for, the whole command line otherwise.
'use strict';
const programs = '/usr/local/lib/kedge';
const [, , command, next = '-'] = process.argv;
// What stays is started as pods start it (host/node-options.ts): this very process begins anew with the option.
if (command === 'agent' && next.startsWith('-')) {
  const argv = ['--use-openssl-ca', `${programs}/kedge-agent.mjs`, ...process.argv.slice(2)];
  process.execve(process.execPath, [process.execPath, ...argv]);
}
void import(`${programs}/${command === 'agent' ? 'kedge-agent' : 'kedge'}.mjs`);
