#!/usr/local/bin/node
// The program `kedge` of the image: the lean agent where that is asked for, the whole command line otherwise.
'use strict';
void import(`/usr/local/lib/kedge/${process.argv[2] === 'agent' ? 'kedge-agent' : 'kedge'}.mjs`);
