// A shell for the commands of the recordings: echo, cat, head and the like over the simulated tracing folder. Commands that it does
// not know are skipped, with what it does not know as the reason.

class Unknown extends Error {}

export function runCommand(system, command) {
  const shell = new Shell(system);
  try {
    return { output: shell.run(command) };
  } catch (error) {
    if (error instanceof Unknown) return { output: '', skipped: error.message };
    throw error;
  }
}

class Shell {
  constructor(system) {
    this.system = system;
    this.status = 0;
  }

  run(line) {
    let output = '';
    for (const list of split(tokens(line), ';')) {
      if (list.length === 0) continue;
      output += this.pipeline(list);
    }
    return output;
  }

  pipeline(list) {
    let input = '';
    let errors = '';
    for (const words of split(list, '|')) {
      const args = [];
      let target;
      for (let n = 0; n < words.length; n++) {
        const word = words[n];
        if (word.op === '>' || word.op === '>>') target = { append: word.op === '>>', path: words[++n].text };
        else if (word.op === '2>&1') continue;
        else args.push(word.text.replaceAll('$?', String(this.status)));
      }
      try {
        input = this.command(args, input, target);
        this.status = 0;
      } catch (error) {
        if (!(error instanceof this.system.modules.KernelError)) throw error;
        this.status = 1;
        errors += failure(error, args, target);
        input = '';
      }
    }
    return errors + input;
  }

  command([name, ...args], input, target) {
    const result = this.builtin(name, args, input);
    if (target === undefined) return result;
    const { fs } = this.system;
    const file = fs.open(relative(target.path), {
      write: true,
      create: true,
      truncate: !target.append,
      append: target.append,
    });
    try {
      if (result !== '') file.writeAll(Buffer.from(result, 'latin1'));
    } finally {
      file.close();
    }
    return '';
  }

  builtin(name, args, input) {
    const { fs, modules } = this.system;
    const read = (path) => Buffer.from(fs.readBytes(relative(path))).toString('latin1');
    const rest = (list) => (list.length === 0 ? input : list.map(read).join(''));
    switch (name) {
      case 'echo':
        return args[0] === '-n' ? args.slice(1).join(' ') : `${args.join(' ')}\n`;
      case 'printf':
        return args[0].replace(/\\n/g, '\n');
      case 'cat':
        return rest(args);
      case 'orc':
        this.system.orc(args);
        return '';
      case 'timeout':
        return this.builtin(args[1], args.slice(2), input);
      case 'head':
      case 'tail':
        return headTail(name, args, rest);
      case 'wc': {
        if (args[0] !== '-l') throw new Unknown('wc without -l');
        const count = rest(args.slice(1)).split('\n').length - 1;
        return args.length > 1 ? `${count} ${args[1]}\n` : `${count}\n`;
      }
      case 'grep': {
        const invert = args[0] === '-v';
        const [pattern, ...files] = invert ? args.slice(1) : args;
        const expression = new RegExp(pattern);
        const found = rest(files)
          .split('\n')
          .slice(0, -1)
          .filter((line) => expression.test(line) !== invert);
        return found.map((line) => `${line}\n`).join('');
      }
      case 'tr':
      case 'LC_ALL=C':
        if (/tr -c/.test([name, ...args].join(' '))) return input.replace(/[^ -~\n\t]/g, '?');
        throw new Unknown(`tr ${args.join(' ')}`);
      case 'cut':
        return input
          .split('\n')
          .map((line) => line.slice(0, Number(args[0].split('-')[1])))
          .join('\n');
      case 'sort':
        return input
          .split('\n')
          .slice(0, -1)
          .sort()
          .map((line) => `${line}\n`)
          .join('');
      case 'find':
        return find(fs, args)
          .map((found) => `${found}\n`)
          .join('');
      case 'xargs':
        return this.builtin(args[0], [...args.slice(1), ...input.split('\n').slice(0, -1)], '');
      case 'stat':
        return stat(fs, args);
      case 'ls':
        return fs
          .readdir(relative(args[0] ?? '.'))
          .map((entry) => `${entry}\n`)
          .join('');
      case 'mkdir':
        fs.mkdir(relative(args[0]));
        return '';
      case 'rmdir':
        fs.rmdir(relative(args[0]));
        return '';
      case 'touch':
        fs.open(relative(args[0]), { write: true, create: true }).close();
        return '';
      case 'rm':
        fs.unlink(relative(args[0]));
        return '';
      case 'mv':
        fs.rename(relative(args[0]), relative(args[1]));
        return '';
      case 'wr':
        return wr(fs, modules, args);
      default:
        throw new Unknown(`no command ${name}`);
    }
  }
}

/** `wr [-a] FILE TEXT`: one write, and what came of it. */
function wr(fs, modules, args) {
  const append = args[0] === '-a';
  const [path, text] = append ? args.slice(1) : args;
  const bytes = Buffer.from(text, 'latin1');
  const errno = (error) => {
    if (!(error instanceof modules.KernelError)) throw error;
    return `errno ${-error.errno} ${error.code}`;
  };
  let file;
  try {
    file = fs.open(relative(path), { write: true, truncate: !append, append });
  } catch (error) {
    return `open: ${errno(error)}\n`;
  }
  try {
    return `write: ok ${file.write(bytes)} of ${bytes.length}\n`;
  } catch (error) {
    return `write: ${errno(error)}\n`;
  } finally {
    file.close();
  }
}

function headTail(name, args, rest) {
  if (args[0] === '-c') return rest(args.slice(2)).slice(0, Number(args[1]));
  const count = /^-\d+$/.test(args[0]) ? Number(args[0].slice(1)) : 10;
  const files = /^-\d+$/.test(args[0]) ? args.slice(1) : args;
  const lines = rest(files).split('\n').slice(0, -1);
  const part = name === 'head' ? lines.slice(0, count) : lines.slice(-count);
  return part.map((line) => `${line}\n`).join('');
}

function find(fs, args) {
  const option = args.findIndex((arg) => arg.startsWith('-'));
  const roots = option < 0 ? args : args.slice(0, option);
  const valueAfter = (name) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
  const depth = Number(valueAfter('-maxdepth') ?? 99);
  const filesOnly = valueAfter('-type') === 'f';
  const walk = (path, left) => {
    const { isDirectory } = fs.stat(relative(path));
    const own = filesOnly && isDirectory ? [] : [path];
    if (!isDirectory || left === 0) return own;
    return [...own, ...fs.readdir(relative(path)).flatMap((name) => walk(`${path}/${name}`, left - 1))];
  };
  return [...new Set(roots.flatMap((root) => walk(root, depth)))];
}

function stat(fs, args) {
  if (args[0] !== '-c') throw new Unknown(`stat ${args[0]}`);
  return args
    .slice(2)
    .map((path) => {
      const { isDirectory, mode, size } = fs.stat(relative(path));
      const bits = [...mode.toString(2).padStart(9, '0')].map((bit, n) => (bit === '1' ? 'rwx'[n % 3] : '-'));
      const values = { A: (isDirectory ? 'd' : '-') + bits.join(''), a: mode.toString(8), s: size, n: path };
      return `${args[1].replace(/%(\w)/g, (_, letter) => values[letter])}\n`;
    })
    .join('');
}

const MESSAGES = {
  EINVAL: 'Invalid argument',
  EEXIST: 'File exists',
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  EACCES: 'Permission denied',
  EBUSY: 'Device or resource busy',
};

function failure(error, args, target) {
  const message = MESSAGES[error.code] ?? error.code;
  const [name, first, second] = args;
  switch (name) {
    case 'mkdir':
      return `mkdir: cannot create directory '${first}': ${message}\n`;
    case 'rmdir':
      return `rmdir: failed to remove '${first}': ${message}\n`;
    case 'touch':
      return `touch: cannot touch '${first}': ${message}\n`;
    case 'rm':
      return `rm: cannot remove '${first}': ${message}\n`;
    case 'mv':
      return `mv: cannot move '${first}' to '${second}': ${message}\n`;
    case 'head':
      return `head: cannot open '${args.at(-1)}' for reading: ${message}\n`;
    default:
      return target === undefined
        ? `${name}: ${first}: ${message}\n`
        : `/run.sh: line 5: ${name}: write error: ${message}\n`;
  }
}

function relative(path) {
  if (path.startsWith('/sys/kernel/debug')) throw new Unknown(`${path} is no file of the tracing folder`);
  return path.replace(/^\/sys\/kernel\/tracing\/?/, '');
}

/** Words and operators of a line. */
function tokens(line) {
  const list = [];
  const pattern = /\s*(?:(2>&1|>>|>|;|\|)|((?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"|;>\\])+))/y;
  let at = 0;
  while (at < line.length) {
    if (/^\s*$/.test(line.slice(at))) break;
    pattern.lastIndex = at;
    const match = pattern.exec(line);
    if (match === null) throw new Unknown(`cannot read ${line.slice(at)}`);
    at = pattern.lastIndex;
    if (match[1] !== undefined) list.push({ op: match[1] });
    else list.push({ text: unquoted(match[2]) });
  }
  return list;
}

function unquoted(word) {
  return word.replace(/'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)/g, (_, single, double, plain) =>
    single !== undefined ? single : double !== undefined ? double.replace(/\\(["\\$`])/g, '$1') : plain,
  );
}

function split(list, op) {
  const parts = [[]];
  for (const token of list) {
    if (token.op === op) parts.push([]);
    else parts.at(-1).push(token);
  }
  return parts;
}
