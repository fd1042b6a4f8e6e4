/** The `config = { … }` block: bpftrace's names where the setting exists there. */

import { didYouMean } from '../../similar.ts';
import type * as ast from '../ast.ts';
import type { Diagnostics } from '../diagnostics.ts';
import type { ScriptConfig } from '../script.ts';

export const DEFAULT_CONFIG: ScriptConfig = {
  maxStrlen: 64,
  maxMapKeys: 4096,
  stackDepth: 127,
  printMapsOnExit: true,
};

interface Setting {
  readonly field: keyof ScriptConfig;
  /** Range of an integer; a truth value without. */
  readonly range?: readonly [number, number];
}

const SETTINGS: Record<string, Setting> = {
  max_strlen: { field: 'maxStrlen', range: [8, 4096] },
  max_map_keys: { field: 'maxMapKeys', range: [1, 1 << 22] },
  stack_depth: { field: 'stackDepth', range: [1, 127] },
  print_maps_on_exit: { field: 'printMapsOnExit' },
};

/** Settings of bpftrace that have no meaning here: taken and ignored with a warning, so that its scripts run. */
const IGNORED = new Set([
  'cache_user_symbols', 'cpp_demangle', 'lazy_symbolication', 'license', 'log_size', 'max_bpf_progs', 'max_cat_bytes',
  'max_probes', 'max_type_res_iterations', 'missing_probes', 'on_stack_limit', 'perf_rb_pages', 'probe_inline',
  'stack_mode', 'str_trunc_trailer', 'symbol_source', 'unstable_import', 'unstable_map_decl', 'use_blazesym', 'verbose',
]); // biome-ignore format: a table

/** Merges defaults, what the command line gave, and the script's own block (which wins, as in bpftrace). */
export function readConfig(
  entries: readonly ast.ConfigEntry[],
  given: Partial<ScriptConfig>,
  diagnostics: Diagnostics,
): ScriptConfig {
  const config: Record<keyof ScriptConfig, number | boolean> = { ...DEFAULT_CONFIG, ...given };
  for (const entry of entries) {
    // Environment spelling works in the block too: BPFTRACE_MAX_STRLEN.
    const name = entry.name.toLowerCase().replace(/^(bpftrace|trapline)_/, '');
    const setting = Object.hasOwn(SETTINGS, name) ? SETTINGS[name] : undefined;
    if (setting === undefined) {
      if (IGNORED.has(name)) diagnostics.warning(entry.nameSpan, `config ${name} has no effect here`);
      else {
        const hint =
          didYouMean(name, Object.keys(SETTINGS)) ?? `configs are ${Object.keys(SETTINGS).join(' ')}`;
        diagnostics.error(entry.nameSpan, `Unrecognized config variable: ${entry.name}`, hint);
      }
      continue;
    }
    if (setting.range === undefined) {
      const truth = { true: true, false: false, '1': true, '0': false }[String(entry.value)];
      if (truth === undefined)
        diagnostics.error(entry.valueSpan, `Invalid value for ${name}: needs true or false`);
      else config[setting.field] = truth;
      continue;
    }
    const [low, high] = setting.range;
    const number = typeof entry.value === 'bigint' ? Number(entry.value) : Number.NaN;
    if (!(number >= low && number <= high)) {
      diagnostics.error(entry.valueSpan, `Invalid value for ${name}: needs a number from ${low} to ${high}`);
    } else config[setting.field] = number;
  }
  return config as unknown as ScriptConfig;
}
