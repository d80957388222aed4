using Microsoft.AspNetCore.SignalR;

namespace ChatRooms.Hubs;

/// <summary>
/// Rooms to talk in. What clients hear is "said"(from, text). Nothing in here knows of hubring: it is the hub that it would be without.
/// </summary>
public sealed class Chat : Hub
{
    private const int TextLengthMax = 500;

    private string Name => Context.UserIdentifier ?? "somebody";

    /// <summary>A room is a group. When this returns, the service has the client in it.</summary>
    public async Task Join(string room)
    {
        await Groups.AddToGroupAsync(Context.ConnectionId, room);
        await Clients.OthersInGroup(room).SendAsync("said", Name, "has come in");
    }

    public async Task Leave(string room)
    {
        await Groups.RemoveFromGroupAsync(Context.ConnectionId, room);
        await Clients.Group(room).SendAsync("said", Name, "has left");
    }

    /// <summary>To all in the room, the caller too. Who it is from is not for the caller to say.</summary>
    public Task Say(string room, string text)
    {
        // The text of a HubException reaches the caller; that of any other exception only with EnableDetailedErrors.
        if (text.Length > TextLengthMax) throw new HubException($"Not more than {TextLengthMax} characters, please.");
        return Clients.Group(room).SendAsync("said", Name, text);
    }
}
