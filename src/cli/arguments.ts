/** What all command lines share: numbers as values, and what `util.parseArgs` says of a line that it refuses. */
import { TraplineError } from '../errors.ts';

/** Options by their names, as `util.parseArgs` takes them. */
export type ArgOptions = Readonly<
  Record<string, { readonly type: 'boolean' | 'string'; readonly short?: string }>
>;

/**
 * The arguments with negative numbers tied to the option in front of them (`--max-pause -1` to `--max-pause=-1`): what they
 * are is for the option to say, where `util.parseArgs` takes them for options.
 */
export function tieNumbers(argv: readonly string[], options: ArgOptions): string[] {
  const tied: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i]!;
    if (arg === '--') return [...tied, ...argv.slice(i)];
    const value = argv[i + 1];
    const long = arg.startsWith('--');
    if (value !== undefined && /^-\d/.test(value) && takesValue(arg, options)) {
      tied.push(long ? `${arg}=${value}` : arg + value);
      i++;
    } else tied.push(arg);
  }
  return tied;
}

/** `--name`, `-n`, or flags and a last letter that takes one (`-vp`). */
function takesValue(arg: string, options: ArgOptions): boolean {
  if (arg.startsWith('--')) return options[arg.slice(2)]?.type === 'string';
  if (!/^-\w+$/.test(arg)) return false;
  const byLetter = new Map(Object.values(options).map((option) => [option.short, option.type]));
  const types = [...arg.slice(1)].map((letter) => byLetter.get(letter));
  return types.pop() === 'string' && types.every((type) => type === 'boolean');
}

/** A number of 0 or more. EUSAGE with the option's name. */
export function wholeNumber(flag: string, text: string, least: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new TraplineError('EUSAGE', `${flag}: ${text} is not a whole number from ${least}`);
}

/** What `util.parseArgs` complains of, but for options that it does not know. */
export function usageOf(message: string): TraplineError {
  const missing = /^Option '(-\w|--[\w-]+)(?:, --[\w-]+)?(?: <value>)?' argument (missing|is ambiguous)/.exec(
    message,
  );
  if (missing === null) return new TraplineError('EUSAGE', message.replace(/\.\s.*/s, ''));
  const [, flag, why] = missing;
  const hint = why === 'missing' ? undefined : `one that begins with a dash is given as ${joined(flag!)}`;
  return new TraplineError('EUSAGE', `${flag} needs a value`, { hint });
}

const joined = (flag: string): string => (flag.startsWith('--') ? `${flag}=-VALUE` : `${flag}-VALUE`);
