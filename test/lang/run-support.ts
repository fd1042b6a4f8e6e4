import { Engine } from './engine.ts';

export const req = (url: string, extra: object = {}): object => ({ url, method: 'GET', ...extra });

/** Runs one probe body once and gives what it printed. */
export function printed(body: string, hit: Parameters<Engine['hit']>[1] = {}, options = {}): string[] {
  const engine = new Engine(`kprobe:f { ${body} }`, options);
  engine.hit(0, hit);
  return engine.records();
}
