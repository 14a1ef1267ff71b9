import BackupService
import Daemon
import LDAP
import JobCore
import ScriptService
import Testing

@testable import prov_backup_rsnapshot

/// The sections of the job core.
struct SettingsJobsTests {
    private let fixture: SettingsFixture

    init() throws { fixture = try SettingsFixture() }

    private func load(_ lines: String, environment: [String: String] = [:]) throws -> DaemonConfiguration {
        let (settings, warnings) = try fixture.load(SettingsFixture.minimum + lines, environment: environment)
        #expect(warnings.isEmpty)
        return settings
    }

    @Test func `the defaults are those of the table`() throws {
        let settings = try load("[Job a]\nSCRIPT = /a.sh\n[Hooks Admin]\nENABLED = yes\nDIRECTORY = /hooks\n")
        #expect(settings.scripts.events.directory == "/etc/Provisioning/scripts")
        #expect(settings.scripts.events.timeLimit == .seconds(30))
        #expect(settings.scripts.maxJobs == nil)
        #expect(settings.policies[.admin]?.directory == "/hooks")
        #expect(settings.policies[.backup]?.hooks == nil)
        #expect(settings.policies.values.allSatisfy { $0.window == nil && $0.alerts })
        let job = try #require(settings.userScripts["a"])
        #expect(job.path == "/a.sh" && job.timeLimit == .seconds(365 * 86_400) && job.profile == .lightsOutServer)
        #expect(job.priority == 10 && job.user == nil && job.interruption == .repeats)
        #expect(settings.timetable.lines.isEmpty)
        var jobs = BackupJobsConfiguration()
        (jobs.retry, jobs.host) = (settings.service.retry, ThisHost.name)
        #expect(settings.backupJobs == jobs)
        #expect(jobs.slots == 2 && jobs.timeLimit == .seconds(12 * 3_600) && jobs.memory == 2 << 30)
        #expect(jobs.writesSize && jobs.writesIncrement && jobs.writesLastSuccess)
        #expect(settings.historyFile == "/var/lib/prov-backup-rsnapshot/history.sqlite")
        #expect(settings.history.keepDays == 90 && settings.history.keepJobs == 100_000)
        #expect(settings.script == nil)
        #expect(ScriptServiceConfiguration().attributes == ["uid"])
        #expect(ScriptServiceConfiguration().exitProfile == .provisioning)
        #expect(settings.service.type == .rsnapshot)
    }

    @Test("levels that are due together are asked for the larger one first, as rsnapshot(1) wants it")
    func levelOrder() throws {
        let settings = try load(
            "[Backup Jobs]\n" + ["HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"].map { "\($0) = @daily\n" }.joined())
        #expect(
            settings.timetable.lines.map(\.work.description)
                == ["backup yearly", "backup monthly", "backup weekly", "backup daily", "backup hourly"])
    }

    @Test func `all settings of the file are used`() throws {
        let settings = try load(
            """
            [Service]
            STATE_DIRECTORY = /state
            [Scripts]
            EVENTS_DIRECTORY = /events
            EVENT_TIMEOUT = 5s
            MAX_JOBS = 8
            [Hooks backup]
            ENABLED = yes
            DIRECTORY = /hooks
            SKIP_ON_PRE_FAILURE = yes
            TIMEOUT = 1h
            WINDOW = 22:00-06:00
            ALERT = no
            [Hooks Provisioning]
            WINDOW = 08:00-17:00
            [Job nightly.1]
            SCRIPT = /a.sh
            SCHEDULE = 30 2 * * mon-fri
            TIMEOUT = 2h
            EXIT_PROFILE = MINE
            PRIORITY = 1
            RUN_AS = backup
            [Exit mine]
            0 = success
            24 = warnings
            5 = Wrong Configuration
            9 = retry
            [Backup Jobs]
            SLOTS = 3
            DAILY = 0 21 * * *
            YEARLY = @yearly
            WRITE_INCREMENT_SIZE = no
            [History]
            KEEP_DAYS = 7
            """)
        #expect(settings.scripts.maxJobs == 8)
        #expect(settings.policies.filter { $0.value.hooks != nil }.keys.map(\.self) == [.backup])
        #expect(settings.policies[.backup]?.skipsJob == true)
        #expect(settings.policies[.backup]?.timeLimit == .seconds(3_600))
        #expect(settings.policies[.backup]?.alerts == false)
        #expect(try settings.policies[.backup]?.window == TimeWindow(parsing: "22:00-06:00"))
        #expect(try settings.policies[.provisioning]?.window == TimeWindow(parsing: "08:00-17:00"))
        let job = try #require(settings.userScripts["nightly.1"])
        let line = settings.timetable.lines.first { $0.work == .run("nightly.1") }
        #expect(try line?.schedule == CronSchedule(parsing: "30 2 * * mon-fri"))
        #expect(job.priority == 1 && job.user == "backup" && job.timeLimit == .seconds(7_200))
        #expect(job.profile.name == "mine")
        let readings = [0, 24, 5, 9, 75, 1].map { job.profile.reading(of: .exited(code: $0)) }
        #expect(
            readings.map(\.result) == [.success, .warnings, .wrongConfiguration, .failed, .failed, .failed])
        #expect(
            readings.map(\.failureClass) == [nil, nil, .configuration, .retryable, .retryable, .permanent])
        #expect(
            try settings.backupJobs.schedules == [
                .daily: CronSchedule(parsing: "0 21 * * *"), .yearly: CronSchedule(parsing: "@yearly"),
            ])
        #expect(settings.backupJobs.writesSize && !settings.backupJobs.writesIncrement)
        #expect(settings.historyFile == "/state/history.sqlite" && settings.history.keepDays == 7)
    }

    @Test func `a profile that lists 75 defines its meaning`() throws {
        let settings = try load(
            "[Exit mine]\n0 = success\n75 = aborted\n[Job a]\nSCRIPT = /a.sh\nEXIT_PROFILE = mine\n")
        let reading = settings.userScripts["a"]?.profile.reading(of: .exited(code: 75))
        #expect(reading?.result == .aborted)
        #expect(reading?.failureClass == .permanent)
    }

    @Test func `WRITE_SIZES switches all three off`() throws {
        let jobs = try load("[Backup Jobs]\nWRITE_SIZES = no\nWRITE_BACKUP_SIZE = yes\n").backupJobs
        #expect(!jobs.writesSize && !jobs.writesIncrement && !jobs.writesLastSuccess)
    }

    @Test func `three scripts can be a service of any name`() throws {
        let settings = try load(
            "[Service]\nSERVICE = Mailbox\nTYPE = script\n[Script]\nADD = /add.sh\nATTRIBUTES = uid mail\nGRACE = 1s\nEXIT_PROFILE = posix\n"
        )
        #expect(settings.service.name == "Mailbox")
        #expect(settings.service.type == .script)
        #expect(settings.service.syslog == "Mailbox-Script")
        #expect(settings.script?.add == "/add.sh" && settings.script?.modify == nil)
        #expect(settings.script?.attributes == ["uid", "mail"] && settings.script?.grace == .seconds(1))
        #expect(settings.script?.exitProfile == .posix)
        let (_, warnings) = try fixture.load(SettingsFixture.minimum + "[Service]\nTYPE = Script\n")
        #expect(warnings.map(\.hint) == ["set ADD, MODIFY or DELETE in [Script]"])
    }

    @Test func `invalid labels are refused with the line of their section`() throws {
        let text =
            SettingsFixture.minimum + "[Hooks Weekly]\n[Job a/b]\nSCRIPT = /a.sh\n[Exit POSIX]\n0 = success\n[Exit e]\n"
        let errors = try fixture.errors(text)
        let path = fixture.directory.appending("service.conf")
        let first = SettingsFixture.minimum.split(separator: "\n").count
        #expect(
            errors.map(\.description) == [
                "\(path):\(first + 1): [Hooks Weekly]: there is no such type of jobs; write one of [Hooks Provisioning], [Hooks Backup], [Hooks Admin]",
                "\(path):\(first + 2): [Job a/b]: this cannot be the name of a job; use letters, digits, hyphens, dots and _",
                "\(path):\(first + 4): [Exit POSIX]: this profile is built in and cannot be changed; choose another name",
                "\(path):\(first + 6): [Exit e]: the profile lists no exit code; write a line for each, such as 0 = success",
            ])
    }

    @Test(arguments: ["256", "-1", "01", "007", "x"])
    func `a key that is no exit code is an error, since the code that is meant would fail`(key: String) throws {
        let errors = try fixture.errors(SettingsFixture.minimum + "[Exit e]\n0 = success\n\(key) = failed\n")
        #expect(errors.map(\.key) == [key])
        #expect(errors.first?.hint.contains("from 0 to 255") == true)
    }

    @Test func `the environment reaches jobs and exit codes, and what scripts are given is no setting`() throws {
        let settings = try load(
            "[Job nightly]\nSCRIPT = /a.sh\nEXIT_PROFILE = mine\n[Exit mine]\n0 = success\n",
            environment: [
                "PROV_JOB_NIGHTLY_PRIORITY": "3", "PROV_EXIT_MINE_7": "warnings", "PROV_JOB_ID": "17",
                "PROV_JOB_TOKEN": "a", "PROV_ATTEMPT": "1", "PROV_REPORT_SOCKET": "/run/x", "PROV_SESSION": "b",
                "PROV_BACKUP_JOBS_SLOTS": "2",
            ])
        #expect(settings.userScripts.values.first?.priority == 3)
        #expect(settings.userScripts.values.first?.profile.meanings[7]?.result == .warnings)
        #expect(settings.backupJobs.slots == 2)
    }
}
