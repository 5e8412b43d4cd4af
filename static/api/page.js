// Starts Swagger UI on the element that names the schema: in the page's theme, with the CSRF token on what the session sends.
const root = document.getElementById("swagger-ui");
const address = new URL(root.dataset.schema, location.href);
const darkByNature = matchMedia("(prefers-color-scheme: dark)");

function followTheme() {
  const chosen = document.documentElement.dataset.theme;
  document.documentElement.classList.toggle("dark-mode", chosen ? chosen === "dark" : darkByNature.matches);
}
followTheme();
document.addEventListener("theme", followTheme);
darkByNature.addEventListener("change", followTheme);

SwaggerUIBundle({
  url: address.href,
  domNode: root,
  deepLinking: false, // its links would lie inside buttons
  filter: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  requestInterceptor(request) {
    if (new URL(request.url, location.href).origin === location.origin) {
      request.headers["X-CSRFToken"] = root.dataset.csrfToken;
    }
    return request;
  },
  onComplete() {
    document.getElementById("operations")?.setAttribute("role", "group"); // a second <main> inside the page's own
  },
});
