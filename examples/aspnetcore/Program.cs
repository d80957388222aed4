using ChatRooms;
using ChatRooms.Hubs;
using Microsoft.Azure.SignalR;

var builder = WebApplication.CreateBuilder(args);

// Where hubring is, the SDK reads from the setting Azure:SignalR:ConnectionString (appsettings.json, or the environment).
builder.Services.AddSignalR().AddAzureSignalR(options =>
{
    // On shutdown the clients move to the other app servers and notice nothing; with the default, Off, they connect anew.
    options.GracefulShutdown.Mode = GracefulShutdownMode.MigrateClients;
    options.GracefulShutdown.Timeout = TimeSpan.FromSeconds(30);

    // Who has signed in is known without this line: the claims of HttpContext.User go into the client's token. This app has no
    // sign-in, so it believes what the page says. Leave the line out of yours.
    options.ClaimsProvider = context => Visitor.ClaimsOf(context.Request.Query);
});

var app = builder.Build();
app.UseRouting();
app.MapHub<Chat>("/chat");
app.MapGet("/", () => Page("index.html", "text/html; charset=utf-8"));
app.MapGet("/chat.js", () => Page("chat.js", "text/javascript; charset=utf-8"));
await app.RunAsync();

static IResult Page(string name, string type)
{
    var text = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "wwwroot", name));
    return Results.Text(text, contentType: type);
}
