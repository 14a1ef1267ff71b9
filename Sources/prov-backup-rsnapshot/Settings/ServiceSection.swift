import DaemonKit
import JobCore

/// `[Service]`: which service this is, which accounts are its own, and how jobs run.
enum ServiceSection {
    static let name = SectionName("Service")

    /// Who writes the wishes.
    enum Modus: String, CaseIterable, Sendable { case selfcare }
    /// What carries out the wishes.
    enum ServiceType: String, CaseIterable, Sendable { case rsnapshot = "Rsnapshot", script = "Script" }
    /// What becomes of a date that passed while the daemon was down.
    enum Overdue: String, CaseIterable, Sendable { case run, skip }

    static let modus = SettingKey(
        name, "MODUS", .choice(Modus.self), default: .selfcare, meaning: "Who writes the wishes; there is one way.")
    static let transportAPI = SettingKey(
        name, "TRANSPORTAPI",
        SettingKind<String>(form: "LocalCLI") { text throws(SettingValueError) in
            switch text.lowercased() {
            case "localcli": return "LocalCLI"
            case "clissh":
                throw SettingValueError(
                    "the daemon no longer works on another server over ssh",
                    cure: "run it on the backup server itself and write LocalCLI")
            default: throw SettingValueError("there is no such choice", cure: "write LocalCLI")
            }
        } render: {
            $0
        }, default: "LocalCLI", meaning: "Where the work is done: on this server.")
    static let service = SettingKey(
        name, "SERVICE", .serviceName, default: "Backup", example: "Backup",
        meaning: "The service that is provisioned: Backup, or with TYPE = Script any name.")
    static let type = SettingKey(
        name, "TYPE", .choice(ServiceType.self), default: .rsnapshot, example: "Rsnapshot",
        meaning: "What carries out the wishes: Rsnapshot backup accounts, or the scripts of [Script].")
    static let syslog = SettingKey(
        name, "SYSLOG", .text, default: "", note: "SERVICE-TYPE", meaning: "The daemon's name in the system's log.")
    static let host = SettingKey(
        name, "HOST", HostSelection.kind, default: .any,
        meaning: """
            Which accounts are this daemon's: any takes all of them, auto those whose host attribute names this host, a \
            list of host names those that name one of them. All others are left alone.
            """)
    static let slots = SettingKey(
        name, "SLOTS", .number(1...1_024), default: 4, meaning: "How many accounts are worked on at once.")
    static let overdue = SettingKey(
        name, "OVERDUE", .choice(Overdue.self), default: .run,
        meaning: "Whether a wish whose day passed while the daemon was down is still carried out.")
    static let timeZone = SettingKey(
        name, "TIME_ZONE", .text, default: "", note: "the system's",
        meaning: "Where days begin, such as Europe/Zurich.")
    static let requireInactiveForDelete = SettingKey(
        name, "REQUIRE_INACTIVE_FOR_DELETE", .boolean, default: true,
        meaning: "Whether an account that is still marked as active is protected from being deleted.")
    static let maxDeletesPerHour = SettingKey(
        name, "MAX_DELETES_PER_HOUR", .number(0...HourlyLimit.largest), default: 25,
        meaning: """
            How many accounts may be deleted within an hour; further deletes wait with their entries untouched, which the log, a mail, health and \
            status say. To let them through, raise it and reload. 0: no limit.
            """)
    static let maxAttempts = SettingKey(
        name, "MAX_ATTEMPTS", .number(1...1_000), default: 5,
        meaning: "How often a job is tried before its failure is written to the entry.")
    static let retryDelay = SettingKey(
        name, "RETRY_DELAY", .duration(.seconds(1)...Quantity.longest), default: .seconds(10),
        meaning: "The wait before the second attempt; it doubles with each.")
    static let retryMaxDelay = SettingKey(
        name, "RETRY_MAX_DELAY", .duration(.seconds(1)...Quantity.longest), default: .seconds(3_600),
        meaning: "The longest wait between two attempts.")
    static let stopGrace = SettingKey(
        name, "STOP_GRACE", .duration(), default: .seconds(30),
        meaning:
            "How long running jobs may go on when the daemon stops; what is cut off is done again at the next start. What has not ended SCRIPT_GRACE and ten seconds after that is left."
    )
    static let stateDirectory = SettingKey(
        name, "STATE_DIRECTORY", .path, default: "/var/lib/prov-backup-rsnapshot",
        meaning: "Where the daemon keeps what it may lose without harm.")
    static let runtimeDirectory = SettingKey(
        name, "RUNTIME_DIRECTORY", .path, default: "/run/prov-backup-rsnapshot",
        meaning: "Where the lock and the sockets lie.")

    static let section = SettingsSection(
        name, meaning: "Which service this is, which accounts are its own, and how jobs run.",
        keys: [
            modus.declaration, transportAPI.declaration, service.declaration, type.declaration, syslog.declaration,
            host.declaration, slots.declaration, overdue.declaration, timeZone.declaration,
            requireInactiveForDelete.declaration, maxDeletesPerHour.declaration, maxAttempts.declaration,
            retryDelay.declaration,
            retryMaxDelay.declaration, stopGrace.declaration, stateDirectory.declaration, runtimeDirectory.declaration,
        ])
}
