import DaemonKit
import DirectoryModel

/// `[Attributes]`: what the directory calls the attributes of the protocol.
enum AttributesSection {
    static let name = SectionName("Attributes")

    static let mode = SettingKey(
        name, "MODE", .attribute, default: "sstProvisioningMode",
        meaning: "What is wished or was done: add, adding, added and so on.")
    static let state = SettingKey(
        name, "STATE", .attribute, default: "sstProvisioningState",
        meaning: "0 while there is something to do, afterwards the time at which it was done.")
    static let date = SettingKey(
        name, "DATE", .attribute, default: "sstProvisioningExecutionDate",
        meaning: "The day from which a wish counts, 0 for at once. The name sstProvisioningDate is understood as well.")
    static let returnValue = SettingKey(
        name, "RETURN_VALUE", SettingKind<AttributeName>.attribute.orEmpty, default: "sstProvisioningReturnValue",
        meaning: "The outcome's code, 0 for success. Empty: no code is written.")
    static let active = SettingKey(
        name, "ACTIVE", .attribute, default: "sstIsActive", meaning: "Whether the account is in use.")
    static let host = SettingKey(
        name, "HOST", .attribute, default: "host", meaning: "The backup server that the account belongs to.")
    static let claim = SettingKey(
        name, "CLAIM", SettingKind<AttributeName>.attribute.orEmpty, default: nil,
        meaning: "Where daemons that share accounts write who works on one. Empty: they share none.")

    static let section = SettingsSection(
        name, meaning: "The names of the attributes through which the daemon and other programs talk.",
        keys: [
            mode.declaration, state.declaration, date.declaration, returnValue.declaration, active.declaration,
            host.declaration, claim.declaration,
        ])
}
