/** Arguments that stand for others: `$arg*`, `$argN` by its name, `:%pd` (kernel/trace/trace_probe.c). */

import { KernelError } from '../../errno.ts';
import { isDigit } from '../c-text.ts';
import { simpleStrtoul } from '../kstrto.ts';
import { resolveCType } from './c-type.ts';
import type { ParseContext } from './parse-context.ts';
import type { ProbeLog } from './probe-log.ts';

const MAX_BTF_ARGS_LEN = 128;
const MAX_DENTRY_ARGS_LEN = 256;
/** offsetof(struct dentry, d_name.name) and offsetof(struct file, f_path.dentry) of Linux 6.12, x86-64. */
const DENTRY_NAME = '0x28';
const FILE_DENTRY = '0x48';

/**
 * traceprobe_expand_meta_args(): `$arg*` becomes every parameter, `$argN` the parameter's name, where they are known; undefined where there is
 * nothing to expand.
 */
export function expandMetaArgs(args: readonly string[], ctx: ParseContext): string[] | undefined {
  const log: ProbeLog = ctx.log;
  const { found, all } = findVarArgs(args, ctx);
  const params = ctx.proto?.params ?? [];
  if (!found || params.length === 0) {
    // The caret is where the last `$arg` was found.
    if (all >= 0) log.reject(0, 'NOSUP_BTFARG', 'EOPNOTSUPP');
    return undefined;
  }
  let used = 0;
  const expanded: string[] = [];
  const isJsParam = (index: number): boolean =>
    params[index] !== undefined && resolveCType(ctx.arch, params[index].type).kind === 'js';
  const add = (index: number, type: string): void => {
    const param = params[index];
    if (param === undefined) log.reject(0, 'NO_BTFARG', 'ENOENT');
    const text = param.name + type;
    if (text.length >= MAX_BTF_ARGS_LEN - used) log.reject(0, 'ARGS_2LONG', 'E2BIG');
    used += text.length + 1;
    expanded.push(text);
  };
  for (const [i, arg] of args.entries()) {
    log.index = i + 2;
    if (i === all) for (const n of params.keys()) add(n, '');
    else if (arg.startsWith('$arg')) {
      const { value, tail } = simpleStrtoul(arg.slice(4), 10);
      const property = /^(?:->|\.)/.test(tail) && isJsParam(Number(value) - 1);
      if (tail !== '' && tail[0] !== ':' && !property) log.reject(0, 'BAD_VAR', 'ENOENT');
      if (value === 0n) log.reject(0, 'BAD_ARG_NUM');
      add(Number(value) - 1, tail);
    } else expanded.push(arg);
  }
  return expanded;
}

/** argv_has_var_arg(): whether there are any, and which one is `$arg*` (-1). */
function findVarArgs(args: readonly string[], ctx: ParseContext): { found: boolean; all: number } {
  const log: ProbeLog = ctx.log;
  let found = false;
  let all = -1;
  for (const [i, arg] of args.entries()) {
    if (!arg.startsWith('$arg')) continue;
    log.index = i + 2;
    if (ctx.site.at === 'body') log.reject(0, 'NOFENTRY_ARGS');
    found = true;
    if (isDigit(arg, 4)) continue;
    if (arg[4] !== '*') log.reject(0, 'BAD_VAR');
    if (all >= 0) log.reject(0, 'DOUBLE_ARGS');
    all = i;
  }
  return { found, all };
}

/** traceprobe_expand_dentry_args(): `[NAME=]ARG:%pd` and `:%pD` become the dentry's name, a string. */
export function expandDentryArgs(args: readonly string[]): string[] {
  let used = 0;
  return args.map((arg) => {
    if (!arg.endsWith(':%pd') && !arg.endsWith(':%pD')) return arg;
    const body = arg.slice(0, -4);
    const equals = body.indexOf('=') + 1;
    const value = body.slice(equals);
    const dentry = arg.endsWith('d') ? value : `+${FILE_DENTRY}(${value})`;
    const text = `${body.slice(0, equals)}+0x0(+${DENTRY_NAME}(${dentry})):string`;
    if (text.length >= MAX_DENTRY_ARGS_LEN - used)
      throw new KernelError('ENOMEM', 'the argument list is too long');
    used += text.length + 1;
    return text;
  });
}
