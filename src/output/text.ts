import { checkArgument } from '../arguments.ts';
import { drawBuckets } from './histogram.ts';
import type { MapEntry, MapValue, PrintedMap, Printer, Sinks, Value, WarningInfo } from './model.ts';
import { SINKS } from './model.ts';
import { formatValue } from './values.ts';

/** bpftrace's text: `@x: 5`, `@[key, key]: 3`, histograms below their name. */
export class TextPrinter implements Printer {
  readonly #sinks: Sinks;

  constructor(sinks: Sinks) {
    checkArgument('new TextPrinter()', 'sinks', sinks, SINKS);
    this.#sinks = sinks;
  }

  attachedProbes(count: number): void {
    this.#sinks.progress(`Attaching ${count} probe${count === 1 ? '' : 's'}...\n`);
  }

  printf(text: string): void {
    this.#sinks.data(text);
  }

  time(text: string): void {
    this.#sinks.data(text);
  }

  syscall(text: string): void {
    this.#sinks.data(text);
  }

  value(value: Value): void {
    this.#sinks.data(`${formatValue(value)}\n`);
  }

  map(map: PrintedMap): void {
    this.#sinks.data(map.entries.map((entry) => entryText(map.name, entry)).join(''));
  }

  lostEvents(count: number): void {
    this.#sinks.progress(`Lost ${count} event${count === 1 ? '' : 's'}\n`);
  }

  warning({ message, file, line, column }: WarningInfo): void {
    this.#sinks.progress(`${file}:${line}:${column}: WARNING: ${message}\n`);
  }

  end(): void {
    this.#sinks.data('\n\n');
  }
}

function entryText(name: string, { key, value }: MapEntry): string {
  const label = key.length === 0 ? name : `${name}[${key.map((part) => formatValue(part, 4)).join(', ')}]`;
  if (value.kind === 'hist') return `${label}:\n${drawBuckets(value.buckets)}\n`;
  const text = mapValueText(value);
  return `${label}: ${text}${value.kind === 'stack' ? '' : '\n'}`;
}

function mapValueText(value: Exclude<MapValue, { kind: 'hist' }>): string {
  if (value.kind !== 'stats') return formatValue(value);
  return `count ${value.count}, average ${value.average}, total ${value.total}`;
}
