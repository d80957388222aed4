using System.Security.Claims;

namespace ChatRooms;

/// <summary>Who somebody is, in an app without sign-in: the name that stands behind the hub's address, /chat?user=NAME.</summary>
internal static class Visitor
{
    public static Claim[] ClaimsOf(IQueryCollection query)
    {
        var name = query["user"].ToString();
        // This claim is what the hub sees as Context.UserIdentifier and what Clients.User(…) looks for.
        return name.Length > 0 ? [new(ClaimTypes.NameIdentifier, name)] : [];
    }
}
