/** Printed values as short texts. */
import type { printedMap } from '../../src/output/index.ts';

type Shown = ReturnType<typeof printedMap>['entries'][number]['value'];

export function show(value: Shown): string {
  switch (value.kind) {
    case 'int':
    case 'number':
    case 'boolean':
      return String(value.value);
    case 'text':
      return value.text;
    case 'tuple':
      return `(${value.fields.map(show).join(', ')})`;
    case 'buf':
      return `buf ${Buffer.from(value.bytes).toString('hex')}`;
    case 'stack':
      return value.frames.join(' < ');
    case 'stats':
      return `count ${value.count} average ${value.average} total ${value.total}`;
    case 'hist':
      return JSON.stringify(value.buckets, (_, each) => (typeof each === 'bigint' ? Number(each) : each));
    default:
      return value.kind;
  }
}
