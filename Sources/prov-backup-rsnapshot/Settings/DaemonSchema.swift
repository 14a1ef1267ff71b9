import DaemonKit

/// Every section that a settings file may hold.
enum DaemonSchema {
    static let schema = SettingsSchema(
        [
            GlobalSection.section, OperationModeSection.section, MailSection.section, DatabaseSection.section,
            AttributesSection.section, ServiceSection.section, BackupSection.section, PoolSection.section,
            ScriptSection.section, ScriptsSection.section, HooksSection.section, JobSection.section,
            ExitSection.section,
            BackupJobsSection.section, HistorySection.section,
            SettingsSection(
                SectionName("Gateway"),
                use: .retired(replacement: "the daemon runs on the backup server itself and needs no way there")),
        ], otherVariables: ["PROV_JOB_ID", "PROV_JOB_TOKEN"])

    /// `etc/Provisioning/Global.conf` as it is shipped.
    static var globalFile: String {
        SettingsReference(schema, sections: ["Global", "Operation Mode", "Mail"]).template(
            head: """
                Settings that all provisioning daemons of this server share (option -g).

                Every key may also stand in the service's own file, which wins over this one, and in the environment \
                as PROV_SECTION_KEY, which wins over both. What begins with # has the value that is shown.
                """)
    }

    /// `etc/Provisioning/Backup/Rsnapshot.conf.template` as it is shipped.
    static var serviceFile: String {
        SettingsReference(
            schema,
            sections: [
                "Database", "Attributes", "Service", "Backup", "Pool", "Script", "Scripts", "Hooks", "Job", "Exit",
                "Backup Jobs", "History",
            ]
        ).template(
            head: """
                Settings of the backup service (option -c): copy this file to Rsnapshot.conf and look at [Database].

                A file that holds a password must be its owner's alone: chmod 600. Better, keep the password apart by \
                ADMIN_PASSWORD_FILE or by a systemd credential.

                What begins with # has the value that is shown.
                """)
    }

    /// The reference: one table for each section.
    static var reference: String { SettingsReference(schema).markdown }
}
