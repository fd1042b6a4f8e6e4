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

interface Parts {
  readonly name: string;
  readonly k: number;
  readonly gap: string;
  /** Statements of a function that has `a`; they return. */
  readonly body: string;
}

/** What V8 has scopes, functions or frames of its own for. Each declares `name`, and returns the same for each call. */
const RICH: readonly ((parts: Parts) => string)[] = [
  // made anew by each call
  ({ name, k, gap, body }) =>
    `const ${name}=(a)=>{ const K=class{ x=a;${gap} static y=${k}; #p=(()=>a)(); get p(){ return this.#p; } set p(v){ this.#p=v; }${gap} #q(){ ${body} } q(){ return this.#q(); } };${gap} const o=new K(); o.p=o.p+1; return [o.x,K.y,o.p,o.q()]; };\n`,
  ({ name, k, gap, body }) =>
    `class C_${name}{ static #n=0;${gap} static s=${k}; x=1; f=()=>this.x; #p=2; static{ this.t=()=>3; } constructor(a){ this.a=a;${gap} C_${name}.#n=1; } get v(){ return this.#p+C_${name}.#n; } *g(){ yield this.a;${gap} yield this.f(); } m(a){ ${body} } }\nfunction ${name}(a){ const o=new C_${name}(a);${gap} return [o.v,...o.g(),o.m(a),C_${name}.s,C_${name}.t()]; }\n`,
  ({ name, k, gap, body }) =>
    `const o_${name}={ __proto__:{ b(a){ ${body} }, get c(){ return ${k}; } },${gap} b(a){ return [super.b(a),(()=>super.c)()]; }, get c(){ return super.c+1; } };\nfunction ${name}(a){ const o={ __proto__:o_${name},${gap} b(x){ return super.b(x); } }; return [o.b(a),o.c]; }\n`,
  // suspended between the calls
  ({ name, k, gap }) =>
    `function* g_${name}(a,b=()=>a){${gap} for(;;){ const q=yield b()+${k}; if(q) yield q; } }\nconst i_${name}=g_${name}(1); i_${name}.next();\nfunction ${name}(a){ const [q]=[i_${name}.next(a).value];${gap} return [q,i_${name}.next().value]; }\n`,
  ({ name, k, gap }) =>
    `async function* g_${name}(a){${gap} for(;;){ await null; try { yield [a,${k}]; } finally { a=a; } } }\nconst i_${name}=g_${name}(1); i_${name}.next();\nasync function ${name}(a){ const { value }=await i_${name}.next();${gap} const all=[]; for await (const x of g_${name}(a)){ if(all.push(x)>2) break; } return [value,all]; }\n`,
  // recursions that are under way for some time
  ({ name, k, gap }) =>
    `async function ${name}(a){ if(a<=0) return ${k};${gap} await new Promise((r)=>setTimeout(r,2)); return 1+await ${name}(a-1); }\n`,
  ({ name, k, gap }) =>
    `function ${name}(a,n=15){ if(n<2) return ${k};${gap} return ${name}(a,n-1)+${name}(a,n-2); }\n`,
  ({ name, k, gap }) =>
    `function ${name}(a,b=()=>a,{ c=b()+${k} }={},...r){ a++;${gap} const f=()=>[a,b(),c,arguments.length,r.length]; return f(); }\n`,
  ({ name, gap }) =>
    `class B_${name}{ constructor(a){ this.a=a; } }\nclass C_${name} extends B_${name}{ y=()=>this.a; constructor(a,b=()=>a){ const f=()=>[this.a,new.target===C_${name}];${gap} super(b());${gap} this.f=f; } }\nfunction ${name}(a){ const o=new C_${name}(a); return [o.f(),o.y()]; }\n`,
  ({ name, k, gap }) =>
    `const m_${name}=(Of)=>class extends Of{ constructor(a){ const f=()=>this.z;${gap} super(); this.z=a; this.f=f; } };\nconst ${name}=(a)=>{class K{ k(){ return ${k}; } }${gap} class L extends m_${name}(K){ k(){ return super.k()+1; } } return [new L(a).f(),new L(a).k()]; };\n`,
];

/** Not in strict code. */
const SLOPPY: readonly ((parts: Parts) => string)[] = [
  ({ name, k, gap }) => `function ${name}(a){ let x=a,${gap}arguments=${k};${gap} return [x,arguments]; }\n`,
  ({ name, gap }) => `function ${name}(arguments){${gap} return (()=>arguments)(); }\n`,
  ({ name, k, gap }) =>
    `function ${name}(a){ var arguments=${k};${gap} arguments++; return [a,arguments]; }\n`,
  ({ name, gap }) =>
    `function ${name}(a){ arguments[0]=3;${gap} with({ b:a }){ return [a,b,eval('arguments.length')]; } }\n`,
];

export interface RandomModule {
  readonly text: string;
  readonly functions: readonly string[];
}

/** It answers `results` (of each function, called with 7) and `texts` of the functions. `sloppy`: it is no ES module. */
export function randomModule(next: Random, sloppy: boolean): RandomModule {
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
    const rich = sloppy && next(4) === 0 ? SLOPPY : RICH;
    text += next(2)
      ? rich[next(rich.length)]!({ name, k, gap, body })
      : forms[Math.min(next(7), forms.length - 1)]!();
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
export function randomSession(next: Random, { text, functions }: RandomModule, file: string): Step[] {
  const steps: Step[] = [];
  const live: string[] = [];
  // functions by their names, those inside them and statements by a line
  const named = [...functions, ...(text.match(/\b[gom]_\w+|\bnew C_\w+|\bC_\w+\.m\b/g) ?? [])];
  const lines = text.split('\n').length;
  const one = (): string => named[next(named.length)]!;
  const place = (): string => (next(4) === 0 ? `${1 + next(lines)}` : one());
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
        `${next(2) ? `r:g/${name} ${file}:${one()}` : `p:g/${name} ${file}:${place()}${value}`}\n`,
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
