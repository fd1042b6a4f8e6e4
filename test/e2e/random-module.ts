/** Modules of functions of random shape, blanks and line ends, and random sessions of probe events and tracers on them. */

export type Random = (below: number) => number;

/** The same numbers for the same seed. */
export function random(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % below;
  };
}

/** Letters of names stand in keywords and in Trapline's own names too: a comparison of texts may match them there. */
const NAMES =
  'total fatal handle work let_ cart parse load i x tl return_ catchAll entry route render e r t o'.split(
    ' ',
  );
const BODIES: readonly ((k: number, gap: string) => string)[] = [
  (k) => `return a+${k};`,
  () => 'let n=0; for(const q of [a,2,3]) n+=q; return n;',
  (_, gap) => `if(a>5) return a*2;${gap}return a-1;`,
  () => "try{ return JSON.parse('['+a+']')[0]; }finally{ a++ }",
  (_, gap) => `const f=(v)=>v+1;${gap}return [a,1].map(f).map(v=>v*2)[0];`,
  (_, gap) => `switch(a&1){case 0: return 'e';${gap}default: return 'o'}`,
];

export interface RandomModule {
  readonly text: string;
  readonly functions: readonly string[];
}

/** It answers `results` (of each function, called with 7) and `texts` of the functions. */
export function randomModule(next: Random): RandomModule {
  const functions: string[] = [];
  let text = '';
  const count = 6 + next(10);
  for (let k = 0; k < count; k++) {
    const name = `${NAMES[k % NAMES.length]}`;
    const space = ['', ' ', '  '][next(3)]!;
    const gap = ['', ' ', '\n', '\n  '][next(4)]!;
    const body = BODIES[next(BODIES.length)]!(k, gap);
    const block = `{${gap}${body}${gap}}`;
    const forms = [
      () => `async function ${name}${space}(a){${gap}await null;${gap}${body}${gap}}\n`,
      () => `const ${name}=${space}(a)=>${block};\n`,
      () => `const ${name}${space}= function(a)${block};${next(2) ? '\n' : ' '}`,
      () => `const ${name} = a=>a+${k};\n`,
      () =>
        `class C_${name}{ m(a)${block}\n static s(a){ ${body} } }\nconst o_${name}=new C_${name}(); const ${name}=a=>o_${name}.m(a)+''+C_${name}.s(a);\n`,
      () => `function ${name}${space}(a)${space}${block}${next(3) ? '\n' : ''}${next(3) ? '' : '\n\n'}`,
    ];
    text += forms[Math.min(next(7), forms.length - 1)]!();
    functions.push(name);
  }
  text += `const all = { ${functions.join(', ')} };
process.on('message', async ({ id, op }) => {
  const result = {};
  for (const [name, f] of Object.entries(all)) result[name] = op === 'texts' ? f + '' : await f(7);
  process.send({ id, result });
});
process.send({ ready: 0 });
`;
  return { text, functions };
}

export type Step =
  | { readonly write: string; readonly append?: boolean; readonly text: string }
  | { readonly call: true };

/** Writes to a tracing folder, with calls in between. `file` is the module's name. */
export function randomSession(next: Random, { functions }: RandomModule, file: string): Step[] {
  const steps: Step[] = [];
  const live: string[] = [];
  const one = (): string => functions[next(functions.length)]!;
  const write = (name: string, text: string, append = false): void => {
    steps.push({ write: name, text, append });
  };
  for (let i = 3 + next(7); i > 0; i--) {
    const kind = next(9);
    if (kind < 4) {
      const name = `e${steps.length}`;
      const value = next(2) ? ' x=$arg1:s32' : '';
      write(
        'kprobe_events',
        `${next(2) ? `r:g/${name} ${file}:${one()}` : `p:g/${name} ${file}:${one()}${value}`}\n`,
        true,
      );
      write(`events/g/${name}/enable`, '1');
      live.push(name);
    } else if (kind === 4 && live.length > 0) {
      const [name] = live.splice(next(live.length), 1);
      write(`events/g/${name}/enable`, '0');
      write('kprobe_events', `-:g/${name}\n`, true);
    } else if (kind === 5) {
      write('set_ftrace_filter', one());
      write('current_tracer', 'function_graph');
    } else if (kind === 6) {
      write('set_ftrace_filter', `:mod:${file}`);
      write('current_tracer', next(2) ? 'function' : 'function_graph');
    } else if (kind === 7) write('current_tracer', 'nop');
    else if (live.length > 0) write(`events/g/${live[0]}/trigger`, 'hist:keys=common_pid');
    steps.push({ call: true });
  }
  return steps;
}
