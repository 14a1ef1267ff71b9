import DaemonKit

/// `[Mail]`: who is told. How mail travels is the affair of the system's mail transport.
enum MailSection {
    static let name = SectionName("Mail")

    static let sendTo = SettingKey(
        name, "SENDTO", .mailAddresses, default: [],
        meaning:
            "Who gets mail when jobs or their pre and post scripts fail: addresses split by blanks. Empty: nobody. All failures of a scheduled run are in one mail, and there is at most one mail an hour."
    )
    static let fromName = SettingKey(
        name, "FROMNAME", .text, default: "", note: "the service's name",
        meaning: "The sender's name in these mails.")
    static let sendmail = SettingKey(
        name, "SENDMAIL", .path, default: "/usr/sbin/sendmail",
        meaning: "The program that takes mail; every mail transport of the system has one.")

    private static let transport = "SENDMAIL hands mail to the system's mail transport, which is set up there"

    static let section = SettingsSection(
        name, meaning: "Who is told by mail.",
        keys: [sendTo.declaration, fromName.declaration, sendmail.declaration],
        retired: ["HOST", "PORT", "USERNAME", "PASSWORD", "CA_DIR", "SSL", "AUTH_METHOD"].map {
            RetiredSetting($0, isSecret: $0 == "PASSWORD", replacement: transport)
        } + [RetiredSetting("WANTINFOMAIL", replacement: "no mail is sent about what went well")])
}
