/**
 * The drawings of the navigation, all in one file of the bundle: it comes with the first page in any case, and each one by
 * itself, because some page shows it too, would be a request of its own.
 */
export { default as admin } from "./admin.svg";
export { default as courses } from "./courses.svg";
export { default as learning } from "./learning.svg";
export { default as settings } from "./settings.svg";
export { default as talks } from "./talks.svg";
export { default as teaching } from "./teaching.svg";
export { default as tutors } from "./tutors.svg";
export { default as wallet } from "./wallet.svg";
