const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];

const pad = (value: number, width = 2, fill = '0') => String(value).padStart(width, fill);

function offsetOf(date: Date): string {
  const minutes = -date.getTimezoneOffset();
  const absolute = Math.abs(minutes);
  return `${minutes < 0 ? '-' : '+'}${pad(Math.floor(absolute / 60))}${pad(absolute % 60)}`;
}

/** Zones have their short names in the English of where they are. */
const LOCALES = ['en-US', 'en-GB', 'en-AU', 'en-IN', 'en-ZA'];
/** By the offset: a process is in one zone. */
const zones = new Map<number, string>();

/** `CET`; the offset, as C libraries give it, where a zone has no such name here. */
function zoneOf(date: Date): string {
  const offset = date.getTimezoneOffset();
  let name = zones.get(offset);
  if (name === undefined) {
    name = LOCALES.map((locale) => shortZone(locale, date)).find((short) => /^[A-Z]+$/.test(short));
    name ??= offsetOf(date).replace(/00$/, '');
    zones.set(offset, name);
  }
  return name;
}

function shortZone(locale: string, date: Date): string {
  const parts = new Intl.DateTimeFormat(locale, { timeZoneName: 'short' }).formatToParts(date);
  return parts.find(({ type }) => type === 'timeZoneName')?.value ?? '';
}

function dayOfYear(date: Date): number {
  const start = Date.UTC(date.getFullYear(), 0, 1);
  return Math.round((Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - start) / 86_400_000) + 1;
}

/** ISO 8601 week and its year: the week that holds the year's first Thursday is the first. */
function isoWeek(date: Date): { year: number; week: number } {
  const thursday = new Date(date.getFullYear(), date.getMonth(), date.getDate() + 4 - (date.getDay() || 7));
  return { year: thursday.getFullYear(), week: Math.floor((dayOfYear(thursday) - 1) / 7) + 1 };
}

/** The week of the year, from 0, where weeks begin on a day of the week: 0 is Sunday. */
function weekFrom(date: Date, begin: number): number {
  return Math.floor((dayOfYear(date) + 6 - ((date.getDay() - begin + 7) % 7)) / 7);
}

/**
 * strftime(3) in the C locale and the local time zone, with bpftrace's `%f` (microseconds). `ns` is nanoseconds since
 * 1970. Conversions it does not know are left as they are.
 */
export function strftime(format: string, ns: bigint): string {
  const date = new Date(Number(ns / 1_000_000n));
  const subSecond = Number(((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n);
  const hour12 = date.getHours() % 12 || 12;
  const convert = (conversion: string): string | undefined => {
    switch (conversion) {
      case '%':
        return '%';
      case 'n':
        return '\n';
      case 't':
        return '\t';
      case 'Y':
        return String(date.getFullYear());
      case 'C':
        return pad(Math.floor(date.getFullYear() / 100));
      case 'y':
        return pad(date.getFullYear() % 100);
      case 'G':
        return String(isoWeek(date).year);
      case 'g':
        return pad(isoWeek(date).year % 100);
      case 'V':
        return pad(isoWeek(date).week);
      case 'U':
        return pad(weekFrom(date, 0));
      case 'W':
        return pad(weekFrom(date, 1));
      case 'm':
        return pad(date.getMonth() + 1);
      case 'd':
        return pad(date.getDate());
      case 'e':
        return pad(date.getDate(), 2, ' ');
      case 'j':
        return pad(dayOfYear(date), 3);
      case 'H':
        return pad(date.getHours());
      case 'k':
        return pad(date.getHours(), 2, ' ');
      case 'I':
        return pad(hour12);
      case 'l':
        return pad(hour12, 2, ' ');
      case 'M':
        return pad(date.getMinutes());
      case 'S':
        return pad(date.getSeconds());
      case 'f':
        return pad(Math.floor(subSecond / 1000), 6);
      case 's':
        return String(Math.floor(date.getTime() / 1000));
      case 'p':
        return date.getHours() < 12 ? 'AM' : 'PM';
      case 'P':
        return date.getHours() < 12 ? 'am' : 'pm';
      case 'a':
        return DAYS[date.getDay()]!.slice(0, 3);
      case 'A':
        return DAYS[date.getDay()]!;
      case 'b':
      case 'h':
        return MONTHS[date.getMonth()]!.slice(0, 3);
      case 'B':
        return MONTHS[date.getMonth()]!;
      case 'u':
        return String(date.getDay() || 7);
      case 'w':
        return String(date.getDay());
      case 'z':
        return offsetOf(date);
      case 'Z':
        return zoneOf(date);
      case 'F':
        return strftime('%Y-%m-%d', ns);
      case 'T':
      case 'X':
        return strftime('%H:%M:%S', ns);
      case 'R':
        return strftime('%H:%M', ns);
      case 'D':
      case 'x':
        return strftime('%m/%d/%y', ns);
      case 'r':
        return strftime('%I:%M:%S %p', ns);
      case 'c':
        return strftime('%a %b %e %H:%M:%S %Y', ns);
      default:
        return undefined;
    }
  };
  return format.replace(/%(.)/gs, (whole, conversion: string) => convert(conversion) ?? whole);
}
