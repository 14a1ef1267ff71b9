// swift-tools-version: 6.2
import PackageDescription

/// Imports are internal unless a file says `public import`, so the compiler checks what a target's interface gives away.
/// In CI a warning is an error; elsewhere a newer compiler's new warning must not break a user's build.
let settings: [SwiftSetting] =
    [.enableUpcomingFeature("InternalImportsByDefault"), .enableUpcomingFeature("NonisolatedNonsendingByDefault")]
    + (Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)])

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let inMemoryLogging = Target.Dependency.product(name: "InMemoryLogging", package: "swift-log")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let heap = Target.Dependency.product(name: "HeapModule", package: "swift-collections")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")

let package = Package(
    name: "prov-backup-rsnapshot",
    products: [
        .library(name: "JobCore", targets: ["JobCore", "EventLoop"]),
        .library(name: "Provisioning", targets: ["Provisioning"]),
        .executable(name: "prov-backup-rsnapshot", targets: ["prov-backup-rsnapshot"]),
        .library(name: "CrashPoints", type: .dynamic, targets: ["CrashPoints"]),
        .executable(name: "prov-backup-confine", targets: ["prov-backup-confine"]),
        .executable(name: "provisioning-bench", targets: ["provisioning-bench"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", exact: "1.8.1"),
        .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
    ],
    targets: [
        .systemLibrary(name: "CLDAP", pkgConfig: "ldap", providers: [.apt(["libldap-dev"])]),
        .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
        .target(name: "CLinux", linkerSettings: [.linkedLibrary("nettle")]),
        .target(
            name: "LDAP", dependencies: ["CLDAP", "EventLoop", system, deque],
            swiftSettings: settings + [.strictMemorySafety()]),
        .target(name: "EventLoop", dependencies: ["CLinux", system, heap, deque], swiftSettings: settings),
        .target(
            name: "JobCore", dependencies: ["EventLoop", "CLinux", "CSQLite", system, deque],
            // The Python side of the event handlers is part of the program, so that the two always fit.
            resources: ["bacula", "bacula_host", "bacula_job", "bacula_link"].map {
                .embedInCode("Events/Python/\($0).py")
            },
            swiftSettings: settings),
        .target(
            name: "Provisioning",
            dependencies: ["LDAP", "EventLoop", "JobCore", system, logging, deque],
            swiftSettings: settings),
        .target(
            name: "BackupService",
            dependencies: ["Provisioning", "EventLoop", "JobCore", "LDAP", "CLinux", system, logging],
            swiftSettings: settings),
        .target(
            name: "ScriptService",
            dependencies: ["Provisioning", "EventLoop", "JobCore", "LDAP", system, logging],
            swiftSettings: settings),
        .target(
            name: "Daemon", dependencies: ["EventLoop", "JobCore", "CLinux", logging, system],
            swiftSettings: settings),
        .target(
            name: "Sandbox", dependencies: ["LDAP", "EventLoop", system],
            swiftSettings: settings),
        .executableTarget(
            name: "prov-backup-rsnapshot",
            dependencies: [
                "LDAP", "EventLoop", "JobCore", "Provisioning", "BackupService",
                "Daemon",
                "Sandbox", "ScriptService", argumentParser, logging, system,
            ],
            swiftSettings: settings),
        // Plain C, for what runs inside the copy sandbox, which holds no Swift: these flags leave Swift's runtime out of it.
        .executableTarget(
            name: "prov-backup-confine",
            linkerSettings: [
                .unsafeFlags([
                    "-nostartfiles", "-static-stdlib", "-Xlinker", "--as-needed", "-Xlinker", "--gc-sections",
                ])
            ]),
        .target(name: "CLimit", dependencies: ["CLDAP"]),
        .executableTarget(
            name: "provisioning-bench",
            dependencies: [
                "CLimit", "LDAP", "EventLoop", "JobCore", "BackupService",
                "Daemon", "Sandbox", argumentParser, system,
            ],
            swiftSettings: settings),
        .target(name: "CrashPoints", path: "Tests/CrashPoints", linkerSettings: [.linkedLibrary("dl")]),
        .target(name: "TestMain", path: "Tests/TestMain"),
        .target(
            name: "TestSupport", dependencies: ["TestMain", "EventLoop", "JobCore", "Daemon"],
            path: "Tests/TestSupport", swiftSettings: settings),
        .testTarget(
            name: "EventLoopTests", dependencies: ["TestSupport", "EventLoop", system], swiftSettings: settings),
        .testTarget(
            name: "LDAPTests",
            dependencies: [
                "TestSupport", "LDAP", "Sandbox", "EventLoop", system,
            ],
            swiftSettings: settings),
        .testTarget(
            name: "JobCoreTests", dependencies: ["TestSupport", "CLinux", "EventLoop", "JobCore", system],
            exclude: ["Events/Fixtures"],
            swiftSettings: settings),
        .testTarget(
            name: "ProvisioningTests",
            dependencies: [
                "TestSupport",
                "Provisioning", "JobCore", "LDAP", "Sandbox", logging,
                inMemoryLogging, system,
            ], swiftSettings: settings),
        .testTarget(
            name: "BackupServiceTests",
            dependencies: [
                "TestSupport", "BackupService", "Provisioning", "EventLoop", "JobCore", "LDAP",
                "Sandbox", logging, system,
            ], swiftSettings: settings),
        .testTarget(
            name: "ScriptServiceTests",
            dependencies: [
                "TestSupport", "ScriptService", "Provisioning", "JobCore", "LDAP",
                "Sandbox", logging, inMemoryLogging, system,
            ], swiftSettings: settings),
        .testTarget(
            name: "DaemonTests", dependencies: ["TestSupport", "Daemon", "JobCore", logging, system],
            swiftSettings: settings
        ),
        .testTarget(
            name: "SandboxTests",
            dependencies: ["TestSupport", "Sandbox", "EventLoop", system],
            swiftSettings: settings),
        .testTarget(
            name: "CommandLineTests",
            dependencies: [
                "TestSupport",
                "prov-backup-rsnapshot", "Sandbox", "LDAP", "Daemon",
                "Provisioning", "BackupService", "ScriptService", "JobCore", logging, system,
            ], exclude: ["Golden", "Upgrade"], swiftSettings: settings),
        .testTarget(
            name: "ProvisioningBenchTests",
            dependencies: [
                "TestSupport", "provisioning-bench", "LDAP", "Sandbox", system,
            ],
            swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
