// Starts Swagger UI on the element that names the schema; adds the CSRF token to what the session sends.
const root = document.getElementById("swagger-ui");
const address = new URL(root.dataset.schema, location.href);
SwaggerUIBundle({
  url: address.href,
  domNode: root,
  deepLinking: true,
  filter: true,
  docExpansion: "list",
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  requestInterceptor(request) {
    if (new URL(request.url, location.href).origin === location.origin) {
      request.headers["X-CSRFToken"] = root.dataset.csrfToken;
    }
    return request;
  },
});
