/**
 * Formats as patterns. Every string that a pattern accepts has the format; where a pattern accepts less than the standard
 * (marked "part of"), the model writes the common form only.
 */
const DATE =
  '(?:(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29' +
  '|\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8])))';
// no leap seconds: whether one exists depends on the day
const TIME = '(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)';
const OCTET = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,50}[A-Za-z0-9])?';
// at most four labels of 52 characters: below the limit of 253; the last begins with a letter, so it is no address
const HOST = `(?:${LABEL}\\.){0,3}[A-Za-z](?:[A-Za-z0-9-]{0,50}[A-Za-z0-9])?`;

export const formats: Readonly<Record<string, string>> = {
  date: `^${DATE}$`,
  time: `^${TIME}$`,
  'date-time': `^${DATE}T${TIME}$`,
  uuid: '^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$',
  ipv4: `^${OCTET}(?:\\.${OCTET}){3}$`,
  // part of RFC 4291: all eight groups written out
  ipv6: '^[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){7}$',
  // part of RFC 1123
  hostname: `^${HOST}$`,
  // part of RFC 5321: unquoted local part
  email: `^[A-Za-z0-9_+-]{1,30}(?:\\.[A-Za-z0-9_+-]{1,30})?@(?:${LABEL}\\.){1,2}[A-Za-z]{2,20}$`,
  // part of RFC 3986: web addresses
  uri: `^https?://${HOST}(?::[1-9]\\d{0,3})?(?:/[A-Za-z0-9._~+-]*)*(?:\\?[A-Za-z0-9._~=&+-]*)?(?:#[A-Za-z0-9._~+-]*)?$`,
  // part of RFC 3339: one of weeks or the usual descending units
  duration: '^P(?:\\d{1,9}W|\\d{1,9}D|T\\d{1,9}[HMS]|\\d{1,9}DT\\d{1,9}[HMS])$',
};
