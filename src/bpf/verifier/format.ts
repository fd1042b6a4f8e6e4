/** The constant format of bpf_snprintf (check_bpf_snprintf_call of kernel/bpf/verifier.c). */
import { formatText } from '../helpers/impl/format.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';

const NOTHING = { string: () => undefined, bytes: () => undefined };

/** After its arguments were checked: r3 is a string in a frozen map, r5 the bytes of the u64 arguments. */
export function checkFormat(env: Env): void {
  const format = env.frame.regs[3]!;
  const contents = env.input.frozen?.get(format.map);
  if (contents === undefined) return;
  const start = format.off + Number(format.smin);
  let text = '';
  for (let at = start; contents[at] !== 0; at++) text += String.fromCharCode(contents[at]!);
  const count = Number(env.frame.regs[5]!.varOff.value / 8n);
  const args = new Array<bigint>(Math.min(count, text.length)).fill(0n);
  if (typeof formatText(text, args, NOTHING) === 'number') reject('EINVAL', 'Invalid format string');
}
