import { type FileOps, textFile } from '../file-operations.ts';
import { numberFromUser } from '../kstrto.ts';
import { pidFile } from '../pid-file.ts';
import type { KallsymsSymbol } from '../trace-arch.ts';
import type { TraceArray } from '../trace-array.ts';
import type { Files } from '../trace-files.ts';
import { endsWord, traceGetUser } from '../trace-parser.ts';
import type { Tracing } from '../tracing.ts';
import type { FunctionFilters, FunctionList } from './function-filter.ts';

/** Longest word that a list takes (FTRACE_BUFF_MAX). */
const WORD_MAX = 256;
/** Bytes of a write that are looked at: it takes one word, the writer comes again with the rest. */
const SEEN_MAX = 4096;
const ALL_ENABLED = '#### all functions enabled ####\n';
const NONE_DISABLED = '#### no functions disabled ####\n';

function line({ name, module }: KallsymsSymbol): string {
  return module === undefined ? `${name}\n` : `${name} [${module}]\n`;
}

/**
 * A list of functions (ftrace_regex_write()): a word a write. A word with nothing behind it may go on in the next write; it counts when
 * the file is closed, and then nobody is told when it fits nothing.
 */
function functionListFile(list: FunctionList, none: string, commands = (): string => ''): FileOps {
  const shown = textFile({
    mode: 0o640,
    show() {
      const later = list.later.map((text) => `${text}\n`).join('');
      return (list.empty ? none : [...list].map(line).join('')) + later + commands();
    },
  });
  return {
    mode: 0o640,
    open(flags) {
      if (flags.write && flags.truncate) list.clear();
      let unfinished = '';
      const reader = shown.open(flags);
      return {
        ...(reader.read === undefined ? {} : { read: reader.read }),
        write(data) {
          if (data.length === 0) return 0;
          const text = unfinished + new TextDecoder().decode(data.subarray(0, SEEN_MAX));
          const { word, read } = traceGetUser(text, WORD_MAX);
          const taken = read - unfinished.length;
          const ended = word === undefined || endsWord(text, read - 1);
          unfinished = ended ? '' : (word ?? '');
          if (ended && word !== undefined) list.apply(word);
          return taken;
        },
        release() {
          if (unfinished === '') return;
          try {
            list.apply(unfinished);
          } catch {
            // close() has nobody to tell
          }
        },
      };
    },
  };
}

/** The lists that every instance has (ftrace_create_function_files()). */
export function functionFiles(tr: TraceArray): Files {
  const { functions } = tr;
  return {
    set_ftrace_filter: functionListFile(functions.filter, ALL_ENABLED, () => functions.commands.show()),
    set_ftrace_notrace: functionListFile(functions.notrace, NONE_DISABLED),
    set_ftrace_pid: pidFile(functions, 'pids', 'no pid\n'),
    set_ftrace_notrace_pid: pidFile(functions, 'notracePids', 'no pid\n'),
  };
}

/** The lists of the global trace. */
export function topFunctionFiles(tracing: Tracing): Files {
  const { arch, globalTrace } = tracing;
  const functions: FunctionFilters = globalTrace.functions;
  const all = (text: (symbol: KallsymsSymbol) => string): string => [...arch.functions()].map(text).join('');
  return {
    available_filter_functions: textFile({ mode: 0o440, show: () => all(line) }),
    available_filter_functions_addrs: textFile({
      mode: 0o440,
      show: () => all((symbol) => `${symbol.address.toString(16)} ${line(symbol)}`),
    }),
    enabled_functions: textFile({
      mode: 0o440,
      show: () =>
        [...(arch.enabledFunctions?.() ?? [])]
          .map(([symbol, users]) => line(symbol).replace('\n', ` (${users})\n`))
          .join(''),
    }),
    set_graph_function: functionListFile(functions.graph, ALL_ENABLED),
    set_graph_notrace: functionListFile(functions.graphNotrace, NONE_DISABLED),
    max_graph_depth: textFile({
      mode: 0o640,
      show: () => `${functions.maxDepth}\n`,
      store(text) {
        functions.maxDepth = Number(BigInt.asUintN(32, numberFromUser(text)));
        return undefined;
      },
    }),
  };
}
