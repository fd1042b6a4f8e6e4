// `npm run demo`: a real fastify service under load, traced while it runs, let go again, and what that cost it.
// Service, load and tracer are three processes; the service does not know of the tracer.
import { fork, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { styleText } from 'node:util';

const folder = path.dirname(fileURLToPath(import.meta.url));
const cli = path.join(folder, '../../dist/cli/main.js');
if (!existsSync(cli)) {
  console.error('dist/ is missing: run `npm install` or `npm run build` first');
  process.exit(1);
}

const QUIET = 5;
const TRACED = 5;
const colour = process.stdout.isTTY === true && !process.env.NO_COLOR;
const style = (format, text) => (colour ? styleText(format, text) : text);
const number = (value) => Math.round(value).toLocaleString('en-US');
const say = (text = '') => console.log(text);

const QUESTIONS = [
  {
    title: 'How many requests does each route serve?',
    script: 'kprobe:log.js:access { @[str(arg0), arg1] = count(); }',
  },
  {
    title: 'How long do the queries of the data layer take, in milliseconds?',
    script: [
      'kprobe:db.js:query { @t[asyncid] = nsecs; }',
      'settle:db.js:query /@t[asyncid]/ { @ms = hist((nsecs - @t[asyncid]) / 1000000); delete(@t[asyncid]); }',
      'END { clear(@t); }',
    ].join('\n'),
  },
  {
    title: 'Which call stacks lead to the slowest queries (the longest of each, in microseconds)?',
    script: [
      'kprobe:db.js:query { @t[asyncid] = nsecs; @s[asyncid] = ustack(3); }',
      'settle:db.js:query /@t[asyncid]/ {',
      '  @us[@s[asyncid]] = max((nsecs - @t[asyncid]) / 1000); delete(@t[asyncid]); delete(@s[asyncid]);',
      '}',
      'END { print(@us, 3); clear(@us); clear(@t); clear(@s); }',
    ].join('\n'),
  },
];

const children = [];
process.on('exit', () => {
  for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
});

const service = await startService();
const load = startLoad(service.port);
say();
say(`  ${style('bold', 'trapline')}  a running service, asked three questions`);
say();
say(`  service  fastify, pid ${service.pid}, node ${process.version}, unmodified`);
say('  load     autocannon, 24 connections, a process of its own');
say();
await sleep(3000);

const rates = { before: [], during: [], after: [] };
rates.before.push(await measure(QUIET * 1000));
say(`  ${style('dim', `before tracing: ${number(rates.before[0])} requests/s`)}`);

const sessions = [];
for (const { title, script } of QUESTIONS) {
  say();
  say(`  ${style(['bold', 'cyan'], title)}`);
  say();
  for (const line of script.split('\n')) say(`    ${style('dim', line)}`);
  const from = load.responses;
  const start = performance.now();
  const { output, notes } = await ask(script);
  rates.during.push(((load.responses - from) / (performance.now() - start)) * 1000);
  say();
  for (const line of output.trim().split('\n')) say(`    ${line}`);
  sessions.push(readNotes(notes));
}

rates.after.push(await measure(QUIET * 1000));
const result = await load.stop();
await stopService();
summary(result);
process.exit(0);

async function startService() {
  // A port of its own for the inspector: somebody else may hold the usual one.
  const child = spawn(process.execPath, ['--inspect-port=0', path.join(folder, 'service/server.js')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  // Node announces the inspector for the moment that attaching needs it.
  child.stderr.on('data', (data) => {
    const text = String(data).replace(/^(Debugger .*|For help, see: .*)\n?/gm, '');
    if (text.trim() !== '') process.stderr.write(text);
  });
  const line = await new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the service ended with ${code}`)));
    child.stdout.once('data', resolve);
  });
  return { ...JSON.parse(line), child };
}

async function stopService() {
  service.child.kill('SIGTERM');
  await Promise.race([new Promise((resolve) => service.child.once('exit', resolve)), sleep(2000)]);
}

function startLoad(port) {
  const child = fork(path.join(folder, 'load.mjs'), [`http://127.0.0.1:${port}`, '120']);
  children.push(child);
  const done = new Promise((resolve) => {
    child.on('message', (message) => {
      if (message.done !== undefined) resolve(message.done);
      else state.responses = message.responses;
    });
  });
  const state = {
    responses: 0,
    stop: () => {
      child.kill('SIGTERM');
      return done;
    },
  };
  return state;
}

/** Responses a second over some time. */
async function measure(ms) {
  const from = load.responses;
  const start = performance.now();
  await sleep(ms);
  return ((load.responses - from) / (performance.now() - start)) * 1000;
}

/** Runs the command line tool against the service for some seconds. */
async function ask(script) {
  const program = `${script}\ninterval:s:${TRACED} { exit(); }`;
  const child = spawn(process.execPath, [cli, '-v', '-p', String(service.pid), '-e', program], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let output = '';
  let notes = '';
  child.stdout.on('data', (data) => (output += data));
  child.stderr.on('data', (data) => (notes += data));
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) {
    say(notes);
    throw new Error(`trapline ended with ${code}`);
  }
  return { output, notes };
}

/** What -v says about arming and detaching. */
function readNotes(notes) {
  const detached = /restored (\d+) functions?, (\d+) bytes[^;]*; (.*)/.exec(notes);
  const pauses = /: p50 ([\d.]+) ms, p99 ([\d.]+) ms, longest ([\d.]+) ms/.exec(detached?.[3] ?? '');
  return {
    ways: [...notes.matchAll(/^(\S+): (nop|property|bind|edit|break) \(/gm)].map((match) => match[2]),
    functions: Number(detached?.[1] ?? 0),
    bytes: Number(detached?.[2] ?? 0),
    p50: Number(pauses?.[1] ?? 0),
    p99: Number(pauses?.[2] ?? 0),
    longest: Number(pauses?.[3] ?? 0),
  };
}

function summary(result) {
  const failed = result.non2xx + result.errors + result.timeouts;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const list = (name) => sessions.map((session) => session[name]);
  const ms = (values) => values.map((value) => value.toFixed(2)).join('  ');
  const rows = [
    ['requests served', number(result['2xx'])],
    ['requests failed', number(failed)],
    ['throughput before', `${number(mean(rates.before))} /s`],
    ['throughput during', `${rates.during.map((rate) => number(rate)).join('  ')} /s`],
    ['throughput after', `${number(mean(rates.after))} /s`],
    ['pauses p50', `${ms(list('p50'))} ms`],
    ['pauses p99', `${ms(list('p99'))} ms`],
    ['pauses longest', `${ms(list('longest'))} ms`],
    [
      'armed by',
      list('ways')
        .map((ways) => [...new Set(ways)].join('+'))
        .join('  '),
    ],
    ['functions restored', list('functions').join('  ')],
    ['bytes restored', list('bytes').join('  ')],
  ];
  const [left, right] = [0, 1].map((column) => Math.max(...rows.map((row) => row[column].length)));
  const rule = (a, b, c) => `  ${a}${'─'.repeat(left + 2)}${b}${'─'.repeat(right + 2)}${c}`;
  say();
  say(rule('╭', '┬', '╮'));
  for (const [name, value] of rows) say(`  │ ${name.padEnd(left)} │ ${value.padStart(right)} │`);
  say(rule('╰', '┴', '╯'));
  say();
}
