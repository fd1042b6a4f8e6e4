// The static events that the recordings name: names from available_events.txt, fields from static_formats.txt, both read at run time.

import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

function transcripts(file) {
  if (!existsSync(file)) return [];
  const outputs = [];
  let output;
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (line.startsWith('$ ')) {
      output = { command: line.slice(2), lines: [] };
      outputs.push(output);
    } else output?.lines.push(line);
  }
  return outputs;
}

function parseFormat(lines, filterTypeOf) {
  const fields = [];
  for (const line of lines) {
    const match = /^\tfield:(.*);\toffset:(\d+);\tsize:(\d+);\tsigned:(\d);$/.exec(line);
    if (match === null) continue;
    const [, declaration, offset, size, signed] = match;
    const array = /\[[^\]]*\]$/.exec(declaration)?.[0] ?? '';
    const bare = array === '' ? declaration : declaration.slice(0, -array.length);
    const space = bare.lastIndexOf(' ');
    const name = bare.slice(space + 1);
    if (name.startsWith('common_')) continue;
    const type = bare.slice(0, space) + array;
    fields.push({
      name,
      type,
      offset: Number(offset),
      size: Number(size),
      isSigned: signed === '1',
      filterType: filterTypeOf(type),
    });
  }
  const printFmt = lines.find((line) => line.startsWith('print fmt: '))?.slice('print fmt: '.length) ?? '""';
  return { id: Number(lines.find((line) => line.startsWith('ID: '))?.slice(4) ?? 0), fields, printFmt };
}

/** What is declared of static events: `[{ system, name, id, fields, printFmt }]` in the order in which they were registered. */
export function staticEvents(folders, filterTypeOf) {
  const formats = new Map();
  const recorded = (file) => folders.flatMap((folder) => transcripts(path.join(folder, file)));
  for (const { command, lines } of recorded('static_formats.txt')) {
    const key = /events\/([^/]+)\/([^/]+)\/format/.exec(command);
    if (key !== null) formats.set(`${key[1]}:${key[2]}`, parseFormat(lines, filterTypeOf));
  }
  const listed =
    recorded('available_events.txt')
      .findLast(({ command }) => command === 'cat available_events')
      ?.lines.filter((line) => line.includes(':')) ?? [];
  // The file lists the latest first.
  const names = [...new Set([...listed].reverse().concat([...formats.keys()]))];
  return names.flatMap((key) => {
    const [system, name] = key.split(':');
    if (system === 'ftrace') return [];
    const { id, fields, printFmt } = formats.get(key) ?? { id: 0, fields: [], printFmt: '""' };
    return [{ system, name, id, fields, printFmt }];
  });
}
