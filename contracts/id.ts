/** Ids: no character that is special in a URL, and not `.` or `..`, which no URL's path can carry. Plain data, safe to import from workflow code. */
export const ID_PATTERN = /^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,64}$/;

/** A shop's id, as tokens name it. */
export const SHOP_PATTERN = /^[A-Za-z0-9._-]{1,32}$/;

/**
 * An order's or payment's id as SQL, Temporal and the companies know it: the shop's id before it, so that two shops may have the
 * same one, or the caller's alone where there are no shops.
 */
export const RECORDED_ID_PATTERN = /^([A-Za-z0-9._-]{1,32}~)?(?!\.{1,2}$)[A-Za-z0-9._:-]{1,64}$/;
export const RECORDED_ID_LENGTH = 97;

/** `shop` is empty where there are no shops. */
export const recordedId = (shop: string, id: string): string => (shop === '' ? id : `${shop}~${id}`);
/** The shop of a recorded id; empty when it has none. */
export const shopOf = (recorded: string): string => recorded.slice(0, Math.max(0, recorded.indexOf('~')));
export const withoutShop = (recorded: string): string => recorded.slice(recorded.indexOf('~') + 1);

/** A command's id, chosen by the caller or generated: printable ASCII without spaces. */
export const COMMAND_ID_PATTERN = /^[\x21-\x7e]{1,128}$/;
