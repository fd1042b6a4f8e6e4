// What a probe costs the traced thread: a wrapped function over the same function unprobed, the programs being what the
// script compiler emits for the one-liners beside them. Every count is checked.
//
//   node bench/hit.mjs            needs dist/ (npm run build)

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';

const dist = new URL('../dist/', import.meta.url);
const bpf = await import(new URL('bpf/index.js', dist));
const { ProgramBuilder, HELPERS, layoutMemory, createMemory, initMemory, openMap, jitProgram } = bpf;
const createAgent = new vm.Script(readFileSync(new URL('agent/main.js', dist), 'utf8'), {
  filename: 'trapline:agent',
}).runInThisContext();
const require = createRequire(pathToFileURL(`${process.cwd()}/x.js`));

const R = (reg) => ({ reg });
const [R0, R1, R2, R3, R4, R6, R10] = [0, 1, 2, 3, 4, 6, 10].map(R);
const KEY = 64;
const maps = [
  { name: 'count', type: 'percpu_array', keySize: 4, valueSize: 8, maxEntries: 1 },
  { name: 'by_url', type: 'percpu_hash', keySize: KEY, valueSize: 8, maxEntries: 1024 },
  { name: 'start', type: 'hash', keySize: 8, valueSize: 8, maxEntries: 1024 },
  { name: 'us', type: 'percpu_array', keySize: 4, valueSize: 8, maxEntries: 64 },
  { name: 'value', type: 'percpu_hash', keySize: 128, valueSize: 8, maxEntries: 1024 },
];
const layout = layoutMemory(maps, { ncpu: 2 });
const memory = createMemory(layout);
initMemory(memory, layout);
const KFUNCS = {
  js_path: { id: 1, name: 'js_path', args: ['u64', 'const'], result: 'slot64' },
  js_str: { id: 2, name: 'js_str', args: ['mem_out', 'size', 'u64', 'const'], result: 's32' },
  js_value: { id: 3, name: 'js_value', args: ['mem_out', 'size', 'u64', 'const'], result: 's32' },
  js_stackid: { id: 8, name: 'js_stackid', args: ['u32'], result: 's32' },
  js_asyncid: { id: 9, name: 'js_asyncid', args: [], result: 'f64' },
};

function program(index, reads, kfuncs, emit) {
  const builder = new ProgramBuilder();
  emit(builder);
  const insns = builder.build();
  // The verifier is measured elsewhere; these programs are as it passes them.
  const used = ['map_lookup_elem', 'map_update_elem', 'map_delete_elem', 'ktime_get_ns'];
  const verified = {
    name: `bench${index}`,
    type: 'kprobe',
    insns,
    maps,
    ctxReads: new Set(),
    kfuncsUsed: kfuncs.map((name) => KFUNCS[name]),
    helpersUsed: used,
    stackDepth: 512,
    subprogs: [0],
    reachable: insns.map(() => true),
    log: '',
  };
  return { index, reads, wasm: Buffer.from(jitProgram(verified, layout).wasm).toString('base64') };
}

/** Adds 1 to the element whose key is at r10 + `key`; makes it in a hash. */
function bump(b, map, key, hash) {
  const none = b.newLabel();
  const end = b.newLabel();
  b.ldMap(R1, map).mov(R2, R10).add(R2, key).call(HELPERS.map_lookup_elem.id);
  b.jcond('==', R0, 0, none).ldx(8, R1, R0, 0).add(R1, 1).stx(8, R0, 0, R1).jump(end);
  b.label(none);
  if (hash) {
    b.st(8, R10, -8, 1).ldMap(R1, map).mov(R2, R10).add(R2, key).mov(R3, R10).add(R3, -8).mov(R4, 0);
    b.call(HELPERS.map_update_elem.id);
  }
  b.label(end).mov(R0, 0).exit();
}

const DI = 112;
const programs = [
  program(0, 0, [], (b) => bump(b.st(4, R10, -16, 0), 0, -16, false)),
  program(1, 1, ['js_str'], (b) => {
    b.ldx(8, R3, R1, DI).mov(R1, R10).add(R1, -80).mov(R2, KEY).mov(R4, 1).kcall(KFUNCS.js_str.id);
    bump(b, 1, -80, true);
  }),
  program(2, 0, [], (b) => {
    b.call(HELPERS.ktime_get_ns.id).stx(8, R10, -8, R0).st(8, R10, -16, 7);
    b.ldMap(R1, 2).mov(R2, R10).add(R2, -16).mov(R3, R10).add(R3, -8).mov(R4, 0);
    b.call(HELPERS.map_update_elem.id).mov(R0, 0).exit();
  }),
  program(3, 0, [], (b) => {
    const none = b.newLabel();
    b.st(8, R10, -16, 7).ldMap(R1, 2).mov(R2, R10).add(R2, -16).call(HELPERS.map_lookup_elem.id);
    b.jcond('==', R0, 0, none).ldx(8, R6, R0, 0).call(HELPERS.ktime_get_ns.id).sub(R0, R6).div(R0, 1000);
    // log2 by comparing, as the compiler unrolls it
    b.mov(R6, 0);
    for (const bit of [32, 16, 8, 4, 2, 1]) {
      const below = b.newLabel();
      b.mov(R1, R0).rsh(R1, bit).jcond('==', R1, 0, below).mov(R0, R1).add(R6, bit).label(below);
    }
    b.stx(4, R10, -24, R6).ldMap(R1, 2).mov(R2, R10).add(R2, -16).call(HELPERS.map_delete_elem.id);
    bump(b, 3, -24, false);
    b.label(none).mov(R0, 0).exit();
  }),
  program(4, 1, ['js_path'], (b) => {
    b.ldx(8, R1, R1, DI).mov(R2, 1).kcall(KFUNCS.js_path.id);
    bump(b.st(4, R10, -16, 0), 0, -16, false);
  }),
  program(5, 1, ['js_value'], (b) => {
    b.ldx(8, R3, R1, DI).mov(R1, R10).add(R1, -136).mov(R2, 128).mov(R4, 1).kcall(KFUNCS.js_value.id);
    bump(b, 4, -136, true);
  }),
  program(6, 0, ['js_stackid'], (b) => {
    b.mov(R1, 16).kcall(KFUNCS.js_stackid.id);
    bump(b.st(4, R10, -16, 0), 0, -16, false);
  }),
  program(7, 0, ['js_asyncid'], (b) => {
    b.kcall(KFUNCS.js_asyncid.id);
    bump(b.st(4, R10, -16, 0), 0, -16, false);
  }),
  program(8, 1, [], (b) => {
    b.ldx(8, R1, R1, DI);
    bump(b.st(4, R10, -16, 0), 0, -16, false);
  }),
];
const agent = createAgent({ layout, memory, prefix: '__bench', require });
agent.setPaths([
  { keys: [], position: 0 },
  { keys: ['url'], position: 0 },
]);
agent.load(programs);

class Message {
  constructor(url) {
    this.method = 'GET';
    this.url = url;
    this.httpVersion = '1.1';
  }
}
const request = new Message('/api/products/12345x');
if (request.url.length !== 20) throw new Error('the key has 20 characters');

let site = 0;
function probed(events) {
  const handle = function handle(request, n) {
    return request.url.length + n;
  };
  site++;
  agent.setSites([
    {
      site,
      address: `${0x7000000 + site}`,
      name: 'bench.mjs:handle',
      programs: events.map(([event, index]) => ({ event, program: index, cookie: 0 })),
      maxactive: 0,
      isAsync: false,
      isGenerator: false,
    },
  ]);
  agent.enable([site]);
  return { site, wrapper: agent.wrap(site, handle), handle };
}

/** Every measured function gets a loop of its own, so that V8 may inline it there as in a caller of its own. */
function loopFor() {
  return vm.runInThisContext(
    '(function run(f, request, n) { let sum = 0; for (let i = 0; i < n; i++) sum += f(request, i); return sum; })',
  );
}

function measure(f, total, rounds = 50) {
  const run = loopFor();
  // Many short rounds: the best one is undisturbed even on a busy machine.
  const n = total / 10;
  let best = Number.POSITIVE_INFINITY;
  let calls = 0;
  for (let round = 0; round < rounds; round++) {
    const started = process.hrtime.bigint();
    const sum = run(f, request, n);
    best = Math.min(best, Number(process.hrtime.bigint() - started) / n);
    calls += n;
    if (sum !== n * 20 + (n * (n - 1)) / 2) throw new Error('wrong result');
  }
  return { ns: best, calls };
}

const u64 = (bytes) => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
const total = (map) =>
  [...openMap(memory, layout, map).entries()].reduce(
    (sum, e) => sum + e.values.reduce((s, v) => s + u64(v), 0n),
    0n,
  );

const cases = [
  ['@ = count()', [['entry', 0]], 0, 1e6, 25],
  ['@[arg0] handle only', [['entry', 8]], 0, 1e6],
  ['arg0.url, path only', [['entry', 4]], 0, 1e6],
  ['@[str(arg0.url)] = count()', [['entry', 1]], 1, 5e5, 150],
  [
    'entry + return, @us = hist()',
    [
      ['entry', 2],
      ['return', 3],
    ],
    3,
    5e5,
    250,
  ],
  ['@[arg0.url] = count() tagged', [['entry', 5]], 4, 5e5],
  ['edited: @ = count()', [['entry', 0]], 0, 1e6, 25, 'plain'],
  ['edited: @[str(arg0.url)] = count()', [['entry', 1]], 1, 5e5, 150, 'values'],
  [
    'edited: entry + return hist()',
    [
      ['entry', 2],
      ['return', 3],
    ],
    3,
    5e5,
    250,
    'plain',
  ],
  ['js_asyncid, tracked', [['entry', 7]], 0, 5e5],
  ['@[kstack(16)] = count()', [['entry', 6]], 0, 5e4],
];

// A wrapper with a Map, by hand: the floor for the string key.
function byHand() {
  const counts = new Map();
  const handle = function handle(request, n) {
    return request.url.length + n;
  };
  return function wrapper(...args) {
    const key = args[0].url;
    counts.set(key, (counts.get(key) ?? 0) + 1);
    return Reflect.apply(handle, this, args);
  };
}

const bare = measure(function handle(request, n) {
  return request.url.length + n;
}, 5e6);
console.log(`node ${process.version}; unprobed ${bare.ns.toFixed(2)} ns a call`);
console.log(
  `${'hand-written wrapper with a Map'.padEnd(34)} ${(measure(byHand(), 1e6).ns - bare.ns).toFixed(1).padStart(8)} ns`,
);
/** The same function as the live editor rewrites it: `values` where a program reads arguments. */
function edited(events, values) {
  const { site: id } = probed(events);
  agent.installHooks([id], []);
  const e = values ? `__bench${id}e(this,request,n)` : `__bench${id}e()`;
  const text = events.some(([event]) => event === 'return')
    ? `const i=${e};try{return __bench${id}r(i,request.url.length + n)}catch(x){__bench${id}t(i,x);throw x}`
    : `${e};return request.url.length + n;`;
  const wrapper = vm.runInThisContext(`(function handle(request, n) {${text}})`);
  return { wrapper, site: id };
}

let failed = false;
for (const [name, events, map, n, target, way] of cases) {
  const { wrapper, site: id } = way === undefined ? probed(events) : edited(events, way === 'values');
  if (name.includes(', tracked')) agent.trackAsync(true);
  const before = total(map);
  const { ns, calls } = measure(wrapper, n);
  const counted = Number(total(map) - before);
  const stats = agent.siteStats().find((entry) => entry.site === id);
  const exact = counted === calls && stats.nhit === calls && stats.nmissed === 0;
  if (!exact) failed = true;
  const cost = ns - bare.ns;
  const goal = target === undefined ? '' : `target ${target} ns${cost <= target ? '' : ': MISSED'}`;
  console.log(
    `${name.padEnd(34)} ${cost.toFixed(1).padStart(8)} ns  ${calls} calls ${exact ? 'counted exactly' : `COUNTED ${counted}, nhit ${stats.nhit}, nmissed ${stats.nmissed}`}  ${goal}`,
  );
  agent.disable([id]);
  agent.trackAsync(false);
}
const faults = agent.faults();
if (faults.length > 0) console.log('faults', faults);
agent.dispose();
process.exitCode = failed ? 1 : 0;
