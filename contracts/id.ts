/** Ids: no character that is special in a URL, and not `.` or `..`, which no URL's path can carry. Plain data, safe to import from workflow code. */
export const ID_PATTERN = /^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,64}$/;

/** A command's id, chosen by the caller or generated: printable ASCII without spaces. */
export const COMMAND_ID_PATTERN = /^[\x21-\x7e]{1,128}$/;
