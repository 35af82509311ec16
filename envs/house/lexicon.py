"""The words of instructions: what things, rooms, colours, sides and ways are called, and what joins the clauses.

The first name of each entry is the plain one; the follower reads all of them. Names are lower case, words apart by one
space. No name may stand for two things of one table, which a test checks.
"""

# Things, as catalogue.KINDS calls them.
THINGS: dict[str, tuple[str, ...]] = {
    "sofa": ("sofa", "couch", "settee", "loveseat"),
    "armchair": ("armchair", "easy chair", "lounge chair", "recliner"),
    "coffee table": ("coffee table", "low table", "cocktail table"),
    "television": ("television", "tv", "telly", "flatscreen"),
    "tv stand": ("tv stand", "media console", "television cabinet"),
    "bookshelf": ("bookshelf", "bookcase", "shelf of books", "bookshelves"),
    "fireplace": ("fireplace", "hearth", "mantelpiece"),
    "piano": ("piano", "upright piano", "keyboard"),
    "floor lamp": ("floor lamp", "standing lamp", "lamp stand"),
    "potted plant": ("potted plant", "houseplant", "plant", "fern"),
    "rug": ("rug", "carpet", "mat"),
    "painting": ("painting", "picture", "artwork", "framed print", "canvas"),
    "wall clock": ("wall clock", "round clock"),
    "kitchen counter": ("kitchen counter", "counter", "countertop", "worktop"),
    "stove": ("stove", "cooker", "oven", "range"),
    "refrigerator": ("refrigerator", "fridge", "icebox"),
    "dining table": ("dining table", "dinner table", "large table"),
    "chair": ("chair", "seat"),
    "sideboard": ("sideboard", "buffet", "credenza"),
    "chandelier": ("chandelier", "hanging lamp"),
    "fruit bowl": ("fruit bowl", "bowl of fruit"),
    "vase": ("vase", "flower vase"),
    "trash can": ("trash can", "garbage can", "wastebasket", "dustbin"),
    "bed": ("bed", "double bed"),
    "nightstand": ("nightstand", "bedside table", "night table"),
    "table lamp": ("table lamp", "reading lamp"),
    "wardrobe": ("wardrobe", "closet", "armoire"),
    "dresser": ("dresser", "chest of drawers", "bureau"),
    "mirror": ("mirror", "looking glass"),
    "bathtub": ("bathtub", "tub", "bath"),
    "shower": ("shower", "shower cabin", "shower stall"),
    "toilet": ("toilet", "commode", "lavatory bowl"),
    "sink": ("sink", "washbasin", "basin"),
    "bathroom mirror": ("bathroom mirror", "vanity mirror"),
    "washing machine": ("washing machine", "washer"),
    "dryer": ("dryer", "tumble dryer"),
    "laundry basket": ("laundry basket", "hamper", "clothes basket"),
    "ironing board": ("ironing board", "ironing table"),
    "desk": ("desk", "writing desk", "workstation"),
    "computer": ("computer", "monitor"),
    "filing cabinet": ("filing cabinet", "file cabinet", "cabinet of files"),
    "globe": ("globe", "world globe"),
    "coat rack": ("coat rack", "coat stand", "hat stand"),
    "shoe rack": ("shoe rack", "shoe shelf"),
    "console table": ("console table", "hall table", "entry table"),
    "bench": ("bench", "padded bench"),
    "grandfather clock": ("grandfather clock", "pendulum clock", "longcase clock"),
    "play table": ("play table", "activity table", "little table"),
    "toy chest": ("toy chest", "toy box", "trunk of toys"),
    "dollhouse": ("dollhouse", "toy house", "dolls house"),
    "rocking horse": ("rocking horse", "toy horse", "hobby horse"),
    "beach ball": ("beach ball", "bouncy ball", "ball"),
    "treadmill": ("treadmill", "running machine"),
    "exercise bike": ("exercise bike", "stationary bike", "spin bike"),
    "punching bag": ("punching bag", "boxing bag", "heavy bag"),
    "weight rack": ("weight rack", "dumbbell rack", "barbell stand"),
    "metal shelf": ("metal shelf", "storage shelf", "steel shelving"),
    "barrel": ("barrel", "drum", "keg"),
    "crate": ("crate", "wooden box", "packing case"),
    "bicycle": ("bicycle", "bike", "cycle"),
    "tool cabinet": ("tool cabinet", "tool chest", "toolbox"),
}

ROOMS: dict[str, tuple[str, ...]] = {
    "living room": ("living room", "lounge", "sitting room", "family room", "parlor"),
    "kitchen": ("kitchen", "kitchen area", "cooking area", "kitchenette"),
    "dining room": ("dining room", "dining area", "eating area", "breakfast room"),
    "bedroom": ("bedroom", "sleeping room", "bed chamber"),
    "bathroom": ("bathroom", "restroom", "washroom", "bath room", "powder room"),
    "office": ("office", "study", "home office", "workroom"),
    "hallway": ("hallway", "hall", "corridor", "passageway", "foyer"),
    "laundry room": ("laundry room", "laundry", "utility room", "wash house"),
    "library": ("library", "reading room", "book room"),
    "playroom": ("playroom", "nursery", "children's room", "kids room", "toy room"),
    "gym": ("gym", "exercise room", "fitness room", "workout room"),
    "storage room": ("storage room", "storeroom", "pantry", "box room", "stockroom"),
    "stairs": ("stairwell", "staircase room"),
}

COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet", "cherry red", "ruby", "bright red"),
    "orange": ("orange", "tangerine", "apricot", "pumpkin colored"),
    "yellow": ("yellow", "golden", "mustard", "lemon yellow", "canary"),
    "green": ("green", "emerald", "olive", "leafy green", "grass green"),
    "blue": ("blue", "navy", "azure", "cobalt", "sapphire", "royal blue"),
    "purple": ("purple", "violet", "plum", "lavender", "mauve"),
    "pink": ("pink", "rosy", "salmon", "bubblegum", "fuchsia"),
    "brown": ("brown", "chestnut", "chocolate", "tan", "hazel", "mahogany"),
    "black": ("black", "ebony", "jet black", "onyx", "inky"),
    "white": ("white", "ivory", "snowy", "milky", "chalky"),
    "gray": ("gray", "grey", "silver", "ashen", "slate gray"),
    "teal": ("teal", "turquoise", "aqua", "sea green"),
}

# What adjectives may stand before a thing, by what it is like; they are true of all of its kind.
MANNERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "seats": (
        ("sofa", "armchair", "bed"),
        ("comfortable", "cozy", "plush", "cushioned", "padded", "upholstered", "soft", "inviting", "roomy", "comfy",
         "squashy", "relaxing", "snug"),
    ),
    "chairs": (("chair", "bench"), ("simple", "sturdy", "straight", "plain", "ordinary", "modest", "four-legged", "basic")),
    "tables": (
        ("coffee table", "dining table", "desk", "console table", "play table", "nightstand"),
        ("wooden", "tidy", "polished", "flat", "smooth", "rectangular", "solid", "neat", "varnished", "handsome", "stout"),
    ),
    "storage": (
        ("bookshelf", "wardrobe", "sideboard", "dresser", "filing cabinet", "metal shelf", "tool cabinet", "toy chest",
         "shoe rack", "tv stand"),
        ("boxy", "spacious", "well-stocked", "hefty", "bulky", "practical", "upright", "capacious", "orderly", "closed",
         "heavy-looking", "square-edged"),
    ),
    "tall": (
        ("bookshelf", "wardrobe", "refrigerator", "floor lamp", "grandfather clock", "coat rack", "metal shelf", "shower"),
        ("tall", "lofty", "towering", "high", "head-high", "stately", "looming"),
    ),
    "appliances": (
        ("stove", "refrigerator", "washing machine", "dryer", "treadmill", "exercise bike"),
        ("modern", "electric", "shiny", "gleaming", "spotless", "humming", "technical", "up-to-date", "boxlike"),
    ),
    "bath": (
        ("bathtub", "toilet", "sink", "shower"),
        ("ceramic", "porcelain", "glossy", "clean", "sparkling", "enameled", "hygienic", "scrubbed"),
    ),
    "plants": (("potted plant",), ("leafy", "bushy", "lush", "thriving", "healthy", "well-watered")),
    "pictures": (("painting", "mirror"), ("framed", "decorative", "hanging", "wall-mounted", "pretty", "eye-catching")),
    "play": (
        ("rocking horse", "dollhouse", "beach ball", "toy chest", "play table"),
        ("cheerful", "playful", "childish", "colorful-looking", "merry", "charming", "cute"),
    ),
    "gym": (("punching bag", "weight rack", "treadmill", "exercise bike"), ("sporty", "athletic", "rugged", "robust", "professional")),
    "small": (("trash can", "laundry basket", "crate", "barrel", "vase"), ("compact", "round-shouldered", "stubby", "handy", "humble", "small", "squat", "little")),
    "old": (("piano", "grandfather clock", "fireplace", "barrel", "globe"), ("old-fashioned", "antique", "vintage", "classic", "venerable", "traditional", "timeless", "elegant")),
    "bikes": (("bicycle",), ("parked", "two-wheeled", "leaning", "unlocked")),
}  # fmt: skip

SIDES: dict[str, tuple[str, ...]] = {
    "left": ("on your left", "to your left", "on the left", "on the left side", "on your left-hand side", "at your left"),
    "right": ("on your right", "to your right", "on the right", "on the right side", "on your right-hand side", "at your right"),
    "ahead": ("straight ahead", "directly ahead", "in front of you", "right ahead of you", "up ahead", "dead ahead", "before you"),
    "behind": ("behind you", "at your back", "to your rear", "behind your back"),
}  # fmt: skip

DOORS = ("door", "doorway", "opening", "entrance", "door frame", "portal", "threshold")
PASSAGES = ("opening", "archway", "wide opening", "passage", "open doorway", "gap")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")

THROUGH = (
    "go through", "walk through", "head through", "pass through", "step through", "move through", "continue through",
    "proceed through", "take", "use", "exit through", "leave through", "stroll through", "make your way through",
    "travel through", "go out through", "cut through", "choose", "pick", "slip through", "march through", "venture through",
)  # fmt: skip
INTO = ("into", "and enter", "to enter", "that leads into", "leading into", "leading to", "that opens into", "to get into", "to reach", "and step into", "toward", "and into", "so that you come into", "and come into", "which brings you into", "and arrive in")  # fmt: skip
ENTER = (
    "enter", "go into", "walk into", "head into", "step into", "move into", "continue into", "proceed into", "go over to",
    "head over to", "make your way into", "come into", "cross into", "wander into", "stroll into", "advance into",
)  # fmt: skip
TURN_LEFT = ("turn left", "turn to the left", "make a left", "take a left", "swing left", "veer left", "hang a left", "rotate left", "bear left", "go left", "pivot left", "face left")  # fmt: skip
TURN_RIGHT = tuple(each.replace("left", "right") for each in TURN_LEFT)
TURN_AROUND = (
    "turn around",
    "turn back",
    "make a u-turn",
    "spin around",
    "do an about-face",
    "swivel around",
    "reverse direction",
)
AHEAD = ("go straight", "walk forward", "walk straight", "keep straight on", "move ahead", "head straight", "advance", "continue forward", "go ahead", "carry straight on")  # fmt: skip
PAST = ("walk past", "go past", "pass", "pass by", "move past", "go by", "walk by", "continue past", "head past", "stroll past", "keep going past", "leave behind", "proceed past")  # fmt: skip
UP = ("go up", "climb", "walk up", "head up", "ascend", "take yourself up", "mount")
DOWN = ("go down", "walk down", "head down", "descend", "climb down", "come down")
STAIRS = ("the stairs", "the staircase", "the steps", "the flight of stairs", "the stairway")
UPSTAIRS = ("to the upper floor", "to the second floor", "to the floor above", "to the upper level", "all the way up")
DOWNSTAIRS = (
    "to the lower floor",
    "to the ground floor",
    "to the floor below",
    "to the lower level",
    "all the way down",
)
SEE = ("you will see", "you should see", "you will notice", "look for", "there should be", "you will spot", "notice", "observe", "watch for")  # fmt: skip
BESIDE = ("next to", "beside", "near", "close to", "adjacent to", "nearest to", "alongside")
STOP = (
    "stop", "wait", "halt", "come to a stop", "stand", "pause", "stay", "finish", "end your walk", "stop walking", "rest",
    "remain", "park yourself", "station yourself", "wait patiently", "stand still", "hold your position", "linger",
)  # fmt: skip
FRONT = ("in front of", "right in front of", "directly in front of", "at", "facing", "by", "next to", "near", "close to", "just before", "beside", "within reach of", "at the foot of")  # fmt: skip
MIDDLE = ("in the middle of", "in the center of", "at the center of", "in the very middle of", "halfway across")
INSIDE = (
    "just inside",
    "right inside",
    "just past the door of",
    "immediately inside",
    "barely inside",
    "at the edge of",
)

OPENERS = (
    "to begin", "to start", "firstly", "initially", "from where you are", "from here", "beginning here", "okay", "alright",
    "please", "now", "hello robot", "dear robot", "starting out", "at the outset", "for starters", "listen", "attention",
    "good morning", "good evening", "hi there", "excuse me", "whenever you are ready", "if you would", "as a beginning",
    "let us get moving", "follow these directions", "pay attention", "here is your route", "kindly",
)  # fmt: skip
LEAVE = ("leave", "exit", "get out of", "walk out of", "head out of", "depart from", "quit", "go out of", "come out of")
THEN = (
    ", then ", ". then ", " and then ", ". after that, ", ". next, ", "; ", ". now ", ". from there, ", ". afterwards, ",
    ". once there, ", ". having done that, ", ". when you are there, ", ". ", ". subsequently, ", ". following that, ",
    ", and after that ", ". thereafter, ", ". at that point, ",
)  # fmt: skip
LAST = (". finally, ", ". then ", ", then ", ". lastly, ", ", and ", ". to finish, ", ". in the end, ", ". ", ". ultimately, ", ". as your last step, ", ". to complete the walk, ")  # fmt: skip
CLOSERS = (
    "that is your destination", "you have arrived", "you are done", "that is where i am", "do not go any farther",
    "that is the spot", "this is the end of the route", "mission accomplished", "someone will meet you there",
    "no need to go anywhere else", "i will find you there", "you should be within a step of it", "job done",
    "it should be within arm's reach", "that completes the tour", "thanks", "thank you", "that is all", "well done",
    "you made it", "congratulations", "everything you need is there", "remember this place", "we will continue later",
    "your guide is waiting there", "please do not touch anything", "the others will join you shortly",
    "my grandmother left her glasses there", "the cat likes to sleep around there", "lunch will be served soon",
    "somebody forgot an umbrella over there", "guests often gather there", "the plumber is coming on tuesday",
    "we cleaned that area yesterday", "the light is best during the afternoon", "my sister painted these walls herself",
    "it smells of fresh coffee in the morning", "mind the dog", "ignore the mess", "dinner is almost ready",
    "a package arrived this weekend", "my neighbor repaired it last summer", "the electrician has just finished",
    "our nephew plays music every evening", "keep your shoes clean", "they moved here in spring",
    "the postman rang twice", "those curtains are at the tailor's", "grandpa used to nap nearby", "speak softly",
    "the baby is sleeping", "breakfast was delicious", "nobody has been here since monday", "my keys were lost for weeks",
    "the landlord visits on friday", "we bought this house ten years ago", "winter is chilly without heating",
    "visitors admire the view", "my uncle collects stamps", "the wifi signal is excellent", "an inspector came by in october",
    "birthday parties usually happen there", "children must be supervised", "our realtor loved this layout",
    "the insurance covers accidents", "take a photograph if possible", "report back afterwards via radio",
    "batteries can be charged overnight", "your sensors should confirm it", "humans call this home", "beep twice when finished",
    "several minutes are plenty", "a teenager would do it in seconds", "beware of wet paint", "the vacuum broke again",
    "my cousin designed everything", "we rarely use that part", "tea or juice will be offered", "help yourself to cookies",
    "ask martha about her garden", "the alarm is switched off", "oliver will bring more blankets", "it rained all night",
    "tomorrow we go fishing", "aunt lucy is knitting a sweater", "the electricity bill was enormous", "sunday is for resting",
    "pets are welcome", "smoking is forbidden", "the orchestra rehearses downtown", "we hope to renovate eventually",
)  # fmt: skip
# Remarks that say nothing about the way: of how to walk.
MANNER = (
    "carefully", "slowly", "calmly", "without hurry", "briskly", "quietly", "steadily", "at a comfortable pace", "gently",
    "with caution", "without bumping into anything", "at your leisure", "confidently", "quickly", "smoothly", "cautiously",
    "purposefully", "casually", "politely", "as usual", "without stopping", "with ease", "straightaway", "promptly",
    "keeping an eye open", "taking small strides", "taking long strides", "on tiptoe", "with a spring in your stride",
    "as fast as you can", "for a couple of meters", "for several feet", "just a little way", "a short distance",
    "in a relaxed fashion", "taking care not to scratch anything", "respectfully", "swiftly", "lightly", "attentively",
    "diligently", "nimbly", "unhurriedly", "silently", "gracefully", "directly", "patiently", "deliberately", "boldly",
    "without hesitation", "without delay", "in one go", "with your head held upright", "avoiding obstacles",
)  # fmt: skip
FLOORS: dict[str, tuple[str, ...]] = {
    "planks": ("with the wooden floor", "with floorboards", "with the hardwood floor", "with the parquet"),
    "checks": ("with the checkered floor", "with the checkerboard tiles"),
    "tiles": ("with the tiled floor", "with tiles on the floor", "with the stone tiles"),
    "carpet": ("with the carpeted floor", "with wall-to-wall carpet", "with the soft flooring"),
    "dots": ("with the dotted floor", "with the spotted floor"),
    "plain": ("with the bare floor", "with the plain concrete floor"),
    "wood": ("with the wood underfoot",),
}
NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
