/// A command about one account, as hints offer it for copying.
enum AccountCommand: String {
    case explain, provision, retry, release

    /// `prov-backup-rsnapshot accounts retry 3724300`. A uid that is none is not put into a command: an entry may hold anything, and the
    /// word UID takes its place.
    func text(_ uid: String) -> String {
        "prov-backup-rsnapshot accounts \(rawValue) \(Self.isUID(uid) ? uid : "UID")"
    }

    /// Letters, digits and what user names have between them; never an option, and the same with and without quotes.
    private static func isUID(_ text: String) -> Bool {
        text.wholeMatch(of: /[A-Za-z0-9][A-Za-z0-9._@-]{0,63}/) != nil
    }
}
