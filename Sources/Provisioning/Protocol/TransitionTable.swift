/// Where an account stands.
public enum AccountPhase: String, CaseIterable, Hashable, Sendable {
    /// A mode with a state that asks for nothing, such as `add` with a time stamp.
    case idle
    /// `add`, state `0`.
    case wished
    /// `adding`, state `0`, no ReturnValue: being worked on, or cut off.
    case claimed
    /// `adding`, state `0`, with a ReturnValue.
    case failed
    /// `added`.
    case done
}

/// What can happen to an account.
public enum AccountEvent: String, CaseIterable, Hashable, Sendable {
    /// Somebody writes a wish.
    case wish
    /// A daemon takes the wish on.
    case claim
    /// A daemon takes the wish on and fails it in the same write.
    case refuse
    /// The work is done.
    case finish
    /// The last attempt has failed.
    case fail
    /// An operator asks for another try of what failed, or writes a request again as it is.
    case retry
    /// A daemon starts and finds the entry so.
    case restart
}

/// What an event does to an account.
public enum Transition: Hashable, Sendable {
    /// One write leads there.
    case becomes(AccountPhase)
    /// The claim is written again, and the work goes on with a new attempt.
    case resumes
    /// Nothing is to be done.
    case stays
    /// The write's compare-and-set does not hold: somebody was faster. Read again, decide again.
    case loses
}

/// The state machine of the protocol (specification: protocol.md#modes-and-states), for every phase and every event.
public enum TransitionTable {
    /// What an event does to an account that stands there. Total.
    public static func transition(from phase: AccountPhase, on event: AccountEvent) -> Transition {
        switch (event, phase) {
        case (.wish, _): .becomes(.wished)
        case (.claim, .wished): .becomes(.claimed)
        case (.refuse, .wished): .becomes(.failed)
        case (.finish, .claimed): .becomes(.done)
        case (.fail, .claimed): .becomes(.failed)
        case (.retry, .failed), (.retry, .wished): .becomes(.wished)
        case (.restart, .claimed): .resumes
        case (.restart, _): .stays
        case (.claim, _), (.refuse, _), (.finish, _), (.fail, _), (.retry, _): .loses
        }
    }
}
