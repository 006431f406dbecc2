// Starts Swagger UI. What depends on where the service is mounted stands in the page's element.
const page = document.getElementById("swagger-ui");

window.ui = SwaggerUIBundle({
  domNode: page,
  url: page.dataset.openapiUrl,
  oauth2RedirectUrl: new URL(page.dataset.oauth2RedirectUrl, window.location.href).href,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
