/** Exports output to a file and text to the clipboard. */

import { ApiError } from "./api.js";

/**
 * Saves the stored output of a command, byte for byte.
 * @param {string} commandId
 * @returns {Promise<number>} number of earlier bytes that are no longer stored
 * @throws {ApiError} if the download is rejected or interrupted
 */
export async function downloadOutput(commandId) {
  const path = `/api/commands/${encodeURIComponent(commandId)}/output`;
  try {
    const response = await fetch(path);
    if (!response.ok) throw new ApiError(response.status, "UNKNOWN", `the bridge answered ${response.status}`);
    save(await response.blob(), `${commandId.replace(/[^\w.-]/g, "_")}.log`);
    return Number(response.headers.get("X-Output-Offset")) || 0;
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(0, "UNAVAILABLE", "the bridge is unreachable or closed the connection");
  }
}

/** @param {Blob} blob @param {string} name */
function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser holds the blob by the next task.
  setTimeout(() => URL.revokeObjectURL(link.href), 0);
}

/**
 * Copies text to the clipboard, also without TLS, where browsers provide no clipboard API.
 * @param {string} text
 * @returns {Promise<boolean>} whether it was copied
 */
export async function copyText(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false,
    );
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}
