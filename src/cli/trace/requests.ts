/** What `-e`, `-f`, `-R` and `-B` ask for, put into a process's tracing folder. */
import { parseTarget } from '../../arch/v8/match.ts';
import { TraplineError } from '../../errors.ts';
import { KernelError } from '../../kernel/errno.ts';
import { globMatch } from '../../kernel/trace/glob.ts';
import { didYouMean } from '../../similar.ts';
import { moduleName, symbolName } from '../../target/trace-arch-symbols.ts';
import type { ProcessTracefs } from '../attach-tracefs.ts';
import type { TraceArguments } from './options.ts';

/** An `-e` with what is said of it. */
export interface EventRequest {
  readonly event: string;
  /** '' for the top buffer. */
  readonly instance: string;
  readonly filters: string[];
  readonly triggers: string[];
}

/** `-e` with the `-f` and `-R` behind each, in the instance of the `-B` in front. EUSAGE: a -f with no -e in front. */
export function eventRequests({ given }: TraceArguments): EventRequest[] {
  const requests: EventRequest[] = [];
  let instance = '';
  for (const { name, value = '' } of given) {
    if (name === 'buffer') instance = value;
    if (name === 'event') requests.push({ event: value, instance, filters: [], triggers: [] });
    if (name !== 'filter' && name !== 'trigger') continue;
    const last = requests.at(-1);
    if (last === undefined)
      throw new TraplineError('EUSAGE', `--${name} ${value}: there is no event in front of it`, {
        hint: '-e EVENT -f FILTER: a filter is that of the event before',
      });
    (name === 'filter' ? last.filters : last.triggers).push(value);
  }
  return requests;
}

const PROBE = /^(kprobe|kretprobe):(\S+)(?:\s+(.*))?$/s;
const DEFINITION = /^(?:[prft]\d*|e)(?::\S*)?\s/;

/** The file and function of a probe request, as `-c` looks for them before they are loaded. */
export function probedTarget({ event }: EventRequest): string | undefined {
  return PROBE.exec(event)?.[2];
}

/** Sets up everything. Refusals are TraplineErrors with what was asked, and where in it the fault is. */
export class RequestedEvents {
  readonly #fs: ProcessTracefs;
  readonly #names = new Set<string>();

  constructor(fs: ProcessTracefs) {
    this.#fs = fs;
  }

  /** Events that are on, as SYSTEM:EVENT. */
  async enable(request: EventRequest): Promise<readonly string[]> {
    const folder = request.instance === '' ? '' : `instances/${request.instance}/`;
    const events = await this.#events(request.event);
    for (const event of events) {
      const path = `${folder}events/${event.replace(':', '/')}`;
      // What is filtered is filtered from the first hit on.
      for (const filter of request.filters) await this.#write(`${path}/filter`, filter, `-f ${filter}`);
      for (const trigger of request.triggers)
        await this.#write(`${path}/trigger`, trigger, `-R ${trigger}`, true);
      await this.#write(`${path}/enable`, '1', `-e ${request.event}`);
    }
    return events;
  }

  async #events(event: string): Promise<readonly string[]> {
    const probe = PROBE.exec(event);
    if (probe !== null) return [await this.#define(this.#definition(probe), event)];
    if (DEFINITION.test(event)) return [await this.#define(event, event)];
    const all = (await this.#fs.readFile('available_events')).split('\n').filter((line) => line !== '');
    const found = all.filter((name) => fits(event, name));
    if (found.length > 0) return found;
    const names = all.flatMap((name) => [name, name.slice(name.indexOf(':') + 1)]);
    throw new TraplineError('ENOENT', `-e ${event}: there is no such event`, {
      hint: didYouMean(event, names) ?? 'a function is given as kprobe:FILE:FUNCTION',
    });
  }

  /** `kprobe:lib/server.js:handle url=...` as a line for dynamic_events. */
  #definition([, kind, target = '', args = '']: RegExpExecArray): string {
    const parsed = parseTarget(target);
    if (!('func' in parsed))
      throw new TraplineError('ENOTSUP', `${kind}:${target}: a line cannot be recorded, only a function`);
    const { file, func: name } = parsed;
    const place = file === undefined ? symbolName(name) : `${moduleName(file)}:${symbolName(name)}`;
    const base =
      symbolName(name)
        .replace(/\W/g, '_')
        .replace(/^(?=\d)/, '_') + (kind === 'kretprobe' ? '__return' : '');
    let unique = base;
    for (let n = 1; this.#names.has(unique); n++) unique = `${base}_${n}`;
    this.#names.add(unique);
    return `${kind === 'kprobe' ? 'p' : 'r'}:kprobes/${unique} ${place} ${args}`.trim();
  }

  async #define(definition: string, asked: string): Promise<string> {
    const lines = async (): Promise<string[]> => (await this.#fs.readFile('dynamic_events')).split('\n');
    const before = new Set(await lines());
    await this.#write('dynamic_events', `${definition}\n`, `-e ${asked}`, true);
    const line = (await lines()).find((one) => !before.has(one) && one !== '');
    const name = /^\S+?:(\S+)/.exec(line ?? '')?.[1];
    if (name === undefined)
      throw new TraplineError('EEXIST', `-e ${asked}: it adds to an event that is there`, {
        hint: 'give the definition a name of its own: p:GROUP/EVENT ...',
      });
    return name.replace('/', ':');
  }

  async #write(path: string, text: string, asked: string, append = false): Promise<void> {
    const log = async (): Promise<string> => {
      const instance = /^instances\/[^/]+\//.exec(path)?.[0] ?? '';
      return await this.#fs.readFile(`${instance}error_log`);
    };
    const before = await log();
    try {
      await (append ? this.#fs.appendFile(path, text) : this.#fs.writeFile(path, text));
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      const after = await log();
      throw explained(error, asked, after === before ? undefined : after);
    }
  }
}

/** A refusal in the user's terms: what the error log says of it, with its caret. */
function explained(error: KernelError, asked: string, log: string | undefined): TraplineError {
  const entry = /: error: ([^\n]*)\n {2}Command: ([^\n]*)\n( *)\^\n$/.exec(log ?? '');
  if (entry === null) return new TraplineError(error.code, `${asked}: ${error.message}`, { cause: error });
  const [, message, command, lead] = entry as unknown as [string, string, string, string];
  return new TraplineError(error.code, message, {
    cause: error,
    position: {
      file: asked.slice(0, 2),
      line: 1,
      column: Math.max(1, lead.length - '  Command: '.length + 1),
      length: 1,
      sourceLine: command,
    },
  });
}

/** `SYSTEM:EVENT`, `SYSTEM/EVENT`, either alone, with globs. */
function fits(asked: string, name: string): boolean {
  if (asked === 'all') return true;
  const [system = '', event = ''] = name.split(':');
  const at = asked.search(/[:/]/);
  if (at < 0) return globMatch(asked, system) || globMatch(asked, event);
  return globMatch(asked.slice(0, at) || '*', system) && globMatch(asked.slice(at + 1) || '*', event);
}
