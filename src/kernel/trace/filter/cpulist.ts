import { isSpace } from '../c-text.ts';

/** cpulist_parse(): `0`, `0-3`, `1,4-6`, `0-7:2/4`, `all`, `N`; undefined where it is malformed or names a CPU that is not. */
export function parseCpuList(text: string, ncpu: number): bigint | undefined {
  let mask = 0n;
  for (const part of splitRegions(text)) {
    const region = parseRegion(part, ncpu);
    if (region === undefined) return undefined;
    mask |= region;
  }
  return mask;
}

function splitRegions(text: string): string[] {
  let parts = '';
  for (const char of text) parts += isSpace(char) || char === ',' ? ',' : char;
  return parts.split(',').filter((part) => part !== '');
}

function parseRegion(part: string, ncpu: number): bigint | undefined {
  const match = /^(all|(\d+|N)(?:-(\d+|N))?)(?::(\d+)\/(\d+))?$/i.exec(part);
  if (match === null) return undefined;
  const number = (digits: string): number => (digits === 'N' ? ncpu - 1 : Number(digits));
  if (/n/.test(`${match[2] ?? ''}${match[3] ?? ''}`)) return undefined;
  const start = match[2] === undefined ? 0 : number(match[2]);
  const last = match[2] === undefined ? ncpu - 1 : match[3] === undefined ? start : number(match[3]);
  const whole = match[2] === undefined || match[3] !== undefined;
  if (match[4] !== undefined && !whole) return undefined;
  const used = match[4] === undefined ? last + 1 - start : Number(match[4]);
  const group = match[5] === undefined ? last + 1 - start : Number(match[5]);
  if (start > last || group === 0 || used > group || last >= ncpu) return undefined;
  let mask = 0n;
  for (let at = start; at <= last; at += group) {
    for (let i = at; i <= last && i < at + used; i++) mask |= 1n << BigInt(i);
  }
  return mask;
}
